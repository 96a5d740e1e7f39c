import { expect, test } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Wrapper } from "../../src/device/wrapper.ts";
import { create } from "../../src/devices/hello/index.ts";
import { agree } from "../../src/server/agreement.ts";
import { Header } from "../../src/spec/vfio-user.ts";
import { parseVersion, versionReplyBytesMax } from "../../src/wire/negotiate.ts";

const proposal = (capabilities: object): Uint8Array =>
  new TextEncoder().encode(`\0\0\u0001\0${JSON.stringify({ capabilities })}\0`);

const text = (payload: Uint8Array): string => new TextDecoder().decode(payload.subarray(4, -1));

test("QEMU has 214 bytes for the reply, whatever a client asks for", () => {
  const keys = [
    { twin_socket: { supported: true } },
    { write_multiple: true },
    { vfio_ferry: { precopy_info: true, irq_messages: true } },
  ];
  for (let chosen = 0; chosen < 2 ** keys.length; chosen++) {
    const wish = Object.assign({}, ...keys.filter((_, key) => (chosen & (1 << key)) !== 0));
    const agreement = agree(proposal(wish), create());
    if (typeof agreement === "number") throw new Error(`refused with ${agreement}`);
    expect(Header.size + agreement.payload.length).toBeLessThanOrEqual(versionReplyBytesMax);
    const { capabilities } = JSON.parse(text(agreement.payload)) as { capabilities: object };
    expect("twin_socket" in capabilities).toBe("twin_socket" in wish);
    expect("write_multiple" in capabilities).toBe("write_multiple" in wish);
    expect("vfio_ferry" in capabilities).toBe("vfio_ferry" in wish);
    expect(agreement.peer.precopyInfo).toBe("vfio_ferry" in wish);
    expect(agreement.peer.irqMessages).toBe("vfio_ferry" in wish);
    const read = parseVersion(agreement.payload);
    expect(read).toMatchObject({ limits: { maxDataXferSize: 1_048_576, pgsizes: 4096 } });
  }
});

test("what a device does not have is not agreed on", () => {
  class Bare extends Wrapper {
    override feature(): number {
      return -errno.ENOTTY;
    }
  }
  const wish = proposal({ vfio_ferry: { precopy_info: true } });
  const agreement = agree(wish, new Bare(create()));
  if (typeof agreement === "number") throw new Error(`refused with ${agreement}`);
  expect(agreement.peer.precopyInfo).toBe(false);
  expect(text(agreement.payload)).not.toContain("vfio_ferry");
});
