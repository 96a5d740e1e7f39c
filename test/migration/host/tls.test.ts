/** Who gets a link over TLS, and who keeps nobody else from one. */
import { once } from "node:events";
import { cpSync, readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeAuthority, makeHost } from "../../../src/cli/pki-files.ts";
import { parseAddress } from "../../../src/host/links/address.ts";
import { hostLinks } from "../../../src/host/links/link-factory.ts";
import type { Listener } from "../../../src/host/links/listener.ts";
import { unnamedMax } from "../../../src/host/links/tls.ts";
import type { Link } from "../../../src/migration/hosts/link.ts";
import { strangersMax } from "../../../src/migration/hosts/reception.ts";
import { temporaryFolder } from "../../support/ferry.ts";
import { TestHost } from "./control.ts";

const folder = temporaryFolder();
const pki = (host: string): string => join(folder.path, "pki", host);
const state = [1, 2, 3, 4, 5, 6, 7];

beforeAll(async () => {
  for (const [where, hosts] of [
    ["pki", ["alice", "bob", "mallory"]],
    ["others", ["bob"]],
  ] as const) {
    const at = join(folder.path, where);
    const authority = await makeAuthority(at);
    for (const host of hosts) await makeHost(at, authority, host);
  }
}, 120_000);
afterAll(() => folder[Symbol.dispose]());

describe("a link over TLS", () => {
  const listening = async (): Promise<{ listener: Listener; links: Link[] }> => {
    const links: Link[] = [];
    const place = { address: parseAddress("tls://127.0.0.1:0"), pki: pki("bob") };
    return { listener: await hostLinks.listen(place, (link) => links.push(link)), links };
  };

  it("is not made to a host with another name", async () => {
    const { listener } = await listening();
    const place = { address: listener.address, pki: pki("alice"), peer: "carol" };
    await expect(hostLinks.dial(place)).rejects.toThrow("it is bob, and carol was asked for");
    listener.close();
  });

  it("is not made by or to a host of another authority", async () => {
    const { listener, links } = await listening();
    const others = { address: listener.address, pki: join(folder.path, "others", "bob") };
    await expect(hostLinks.dial({ ...others, peer: "bob" })).rejects.toThrow("no link to");
    expect(links).toEqual([]);
    listener.close();
  });

  it("is not made without a certificate, or with an older TLS", async () => {
    const { listener, links } = await listening();
    const { port } = listener.address as { port: number };
    const ca = readFileSync(join(pki("alice"), "ca.pem"));
    const end = (options: object): Promise<void> =>
      new Promise((resolve) => {
        const socket = connectTls({ host: "127.0.0.1", port, ca, servername: "bob", ...options });
        socket.on("error", () => {});
        socket.on("close", () => resolve());
      });
    await end({});
    const [cert, key] = ["host.pem", "host.key"].map((file) =>
      readFileSync(join(pki("alice"), file)),
    );
    await end({ cert, key, maxVersion: "TLSv1.2" });
    expect(links).toEqual([]);
    listener.close();
  });

  it("is made although others have connected and say nothing", async () => {
    const { listener, links } = await listening();
    const { port } = listener.address as { port: number };
    const silent = Array.from({ length: 3 * unnamedMax }, () => connect(port, "127.0.0.1"));
    await Promise.all(
      silent.map((socket) =>
        once(
          socket.on("error", () => {}),
          "connect",
        ),
      ),
    );
    const place = { address: listener.address, pki: pki("alice"), peer: "bob" };
    for (let i = 0; i < 4; i++) (await hostLinks.dial(place)).close();
    await expect.poll(() => links.length).toBe(4);
    for (const socket of silent) socket.destroy();
    listener.close();
  });

  it("is made by a host of which others of the same authority say nothing", async () => {
    const [alice, bob] = [new TestHost(state), new TestHost([])];
    const listen = "tls://127.0.0.1:0";
    const offer = await bob.control.offer({ from: "alice", listen, pki: pki("bob") });
    const address = parseAddress(offer.address);
    const silent = await Promise.all(
      Array.from({ length: 2 * strangersMax }, () =>
        hostLinks.dial({ address, pki: pki("mallory"), peer: "bob" }),
      ),
    );
    const target = { to: offer.address, token: offer.token, pki: pki("alice"), peer: "bob" };
    expect(await alice.control.migrate(target)).toMatchObject({ outcome: "moved" });
    for (const link of silent) link.close();
    for (const host of [alice, bob]) host.control.halt();
  });

  it("shows the certificate that lies in the folder when a device is put on offer", async () => {
    const bob = new TestHost([]);
    const own = join(folder.path, "renewed");
    cpSync(pki("bob"), own, { recursive: true });
    const place = { from: "alice", listen: "tls://127.0.0.1:0", pki: own };
    const { address } = await bob.control.offer(place);
    const again = { ...place, listen: address };
    cpSync(join(folder.path, "others", "bob"), own, { recursive: true, force: true });
    expect((await bob.control.offer(again)).address).toBe(address);
    const caller = { address: parseAddress(address), pki: pki("alice"), peer: "bob" };
    await expect(hostLinks.dial(caller)).rejects.toThrow("no link to");
    await expect(bob.control.offer({ ...again, pki: pki("bob") })).rejects.toThrow(
      "is in use with the certificates of",
    );
    bob.control.halt();
  });

  it("gets no device with another host's token", async () => {
    const [mallory, bob] = [new TestHost(state), new TestHost([])];
    const listen = "tls://127.0.0.1:0";
    const offer = await bob.control.offer({ from: "alice", listen, pki: pki("bob") });
    const target = { to: offer.address, token: offer.token, pki: pki("mallory"), peer: "bob" };
    const done = await mallory.control.migrate(target);
    expect(done.outcome).toBe("kept");
    expect(done.sentence).toContain("no device is on offer here for this host and token");
    expect(mallory.port.acts).toBe(true);
    for (const host of [mallory, bob]) host.control.halt();
  });

  /** A way to a port that changes a bit of byte `at` of what is sent there first. */
  async function spoiler(port: number, at: number) {
    let passed = 0;
    const server = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      for (const socket of [near, far]) socket.on("error", () => {});
      near.on("data", (bytes: Buffer) => {
        const place = at - passed;
        if (place >= 0 && place < bytes.length) bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
        passed += bytes.length;
        far.write(bytes);
      });
      near.on("close", () => far.destroy());
      far.on("close", () => near.destroy());
      far.pipe(near);
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port: here } = server.address() as AddressInfo;
    return { server, address: `tls://127.0.0.1:${here}`, passed: () => passed };
  }

  /** Moves a device over such a way: what came of it, and how many bytes went there. */
  async function moveOver(at: number): Promise<[outcome: string, bytes: number]> {
    const [alice, bob] = [new TestHost(state), new TestHost([])];
    const listen = "tls://127.0.0.1:0";
    const { address, token } = await bob.control.offer({ from: "alice", listen, pki: pki("bob") });
    const { server, passed, ...way } = await spoiler(Number(address.split(":").at(-1)), at);
    const target = { to: way.address, token, pki: pki("alice"), peer: "bob" };
    const { outcome } = await alice.control.migrate(target);
    const moved = outcome === "moved";
    expect([alice.port.acts, bob.port.acts], `byte ${at}`).toEqual([!moved, moved]);
    expect([...(moved ? bob : alice).port.state], `byte ${at}`).toEqual(state);
    for (const host of [alice, bob]) host.control.halt();
    server.close();
    return [outcome, passed()];
  }

  it("gives out nothing that was changed on its way: a device moves whole or stays", async () => {
    const [outcome, all] = await moveOver(-1);
    expect(outcome).toBe("moved");
    for (let at = 0; at < all * 0.75; at += Math.ceil(all / 24)) {
      expect((await moveOver(at))[0], `byte ${at} of ${all}`).toBe("kept");
    }
    for (let at = all - 8; at < all; at++) await moveOver(at);
  }, 60_000);
});
