import { expect, test } from "vitest";
import { create } from "../../src/devices/hello/index.ts";
import { agree } from "../../src/server/agreement.ts";
import { Header } from "../../src/spec/vfio-user.ts";
import { versionReplyBytesMax } from "../../src/wire/negotiate.ts";

const proposal = (capabilities: object): Uint8Array =>
  new TextEncoder().encode(`\0\0\u0001\0${JSON.stringify({ capabilities })}\0`);

const text = (payload: Uint8Array): string => new TextDecoder().decode(payload.subarray(4, -1));

test("QEMU has 214 bytes for the reply, whatever a client asks for", () => {
  const twin = { twin_socket: { supported: true } };
  const wishes = [{}, twin, { write_multiple: true }, { ...twin, write_multiple: true }];
  for (const wish of wishes) {
    const agreement = agree(proposal(wish), create());
    if (typeof agreement === "number") throw new Error(`refused with ${agreement}`);
    expect(Header.size + agreement.payload.length).toBeLessThanOrEqual(versionReplyBytesMax);
    const { capabilities } = JSON.parse(text(agreement.payload)) as { capabilities: object };
    expect("twin_socket" in capabilities).toBe("twin_socket" in wish);
    expect("write_multiple" in capabilities).toBe("write_multiple" in wish);
  }
});
