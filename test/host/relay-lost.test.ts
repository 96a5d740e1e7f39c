/** A relay whose link is lost, or leads to strangers or to enemies. */

import type { AddressInfo } from "node:net";
import { createServer, type TLSSocket, connect as tlsConnect } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Connection } from "../../src/client/connection.ts";
import { relayReplyMs } from "../../src/client/relay-device.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { readIdentity } from "../../src/host/links/tls.ts";
import { IrqSetFlags, PciIrq } from "../../src/spec/vfio.ts";
import { HeaderFlags, MessageType, OwnCommand } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../../src/sys/descriptors.ts";
import { ferry } from "../cli/run.ts";
import { connectWhenFree } from "../client/connect-when-free.ts";
import { encode, words } from "../client/fake-server.ts";
import { Ferry, until } from "../support/ferry.ts";
import { Load } from "../support/load.ts";
import { swap } from "../support/swap-peers.ts";
import { TwoHosts } from "../support/two-hosts.ts";

const hosts = new TwoHosts();
beforeAll(async () => await hosts.prepare(), 60_000);
afterEach(async () => await hosts.rest());
afterAll(async () => await hosts.end());

const counter = 0x04;
const bytes = new Uint8Array(8);

function register(device: RemoteDevice): number {
  expect(device.read(0, counter, bytes, 0, 4)).toBe(4);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** A VMM at a relay, whose ERR interrupt it hears. */
class Vmm {
  readonly device: RemoteDevice;
  readonly #notice = createEventfd();

  constructor(socket: string) {
    this.device = new RemoteDevice(connectWhenFree(socket), "a VMM's");
    const { dataEventfd: data, actionTrigger: action } = IrqSetFlags.mask;
    const request = { index: PciIrq.err, start: 0, count: 1, data, action };
    const fds = [duplicate(this.#notice)];
    expect(this.device.setIrqs({ ...request, bytes, boolsAt: 0, fds })).toBe(0);
  }

  get isTold(): boolean {
    return drainEventfd(this.#notice) > 0;
  }

  close(): void {
    this.device.close();
    closeFd(this.#notice);
  }
}

/** The device has failed, and the VMM's connection stays. */
function hasFailed({ device }: Vmm): void {
  expect(register(device)).toBe(0xffff_ffff);
  expect(device.write(0, counter, bytes, 0, 4)).toBe(4);
  expect(device.reset()).toBe(-errno.EIO);
  expect(device.unmapAllDma()).toBe(0);
}

describe("a link that is lost", () => {
  it("fails the device at once, tells its VMM, and ends the relay behind it", async () => {
    const { here, there, link } = await hosts.cuttable("hello");
    const vmm = new Vmm(here.socket);
    expect(register(vmm.device)).toBe(0);
    link.tell("cut");
    await until(() => vmm.isTold, "the VMM is told");
    hasFailed(vmm);
    expect(here.ferry.alive).toBe(true);
    vmm.close();
    expect(await here.ferry.exited).toBe(1);
    expect(here.ferry.lines.map(({ msg }) => msg)).toContain(
      "the link is lost, and the device has failed",
    );
    await there.ferry.says("client gone");
    const next = new RemoteDevice(connectWhenFree(there.socket), "the next");
    expect(register(next)).toBe(0);
    next.close();
  }, 120_000);

  it("while requests and DMA are under way is an error, and nobody hangs", async () => {
    const { here, link } = await hosts.cuttable("hello");
    const load = await Load.start(here.socket);
    await load.progress(3);
    link.tell("cut");
    await expect(load.progress(1_000_000)).rejects.toThrow(/instead of|errno/);
    await here.ferry.says("the link is lost, and the device has failed");
  }, 120_000);

  it("with nobody connected ends the relay", async () => {
    const { here, link } = await hosts.cuttable("hello");
    link.tell("cut");
    expect(await here.ferry.exited).toBe(1);
  }, 120_000);

  it("and says nothing is waited for once, for less than a VMM waits", async () => {
    const { here, link } = await hosts.cuttable("hello");
    const vmm = new Vmm(here.socket);
    link.tell("stall");
    expect(relayReplyMs).toBeLessThan(5000);
    hasFailed(vmm);
    expect(vmm.isTold).toBe(true);
    vmm.close();
    expect(await here.ferry.exited).toBe(1);
  }, 120_000);

  it("takes no device away by a swap", async () => {
    const { here, link } = await hosts.cuttable("hello");
    const own = await hosts.local("own", "hello");
    const vmm = new Vmm(here.socket);
    link.tell("cut");
    await until(() => vmm.isTold, "the VMM is told");
    await expect(swap(here.socket, { to: own.socket })).rejects.toThrow(/migrat|busy|state/);
    hasFailed(vmm);
    vmm.close();
  }, 120_000);
});

describe("who may have a device", () => {
  const relayFails = async (name: string, args: string[]) =>
    await Ferry.fails(["--no-control", ...args.map((each) => each)], "relay").then((end) => {
      expect(end.code, name).toBe(1);
      return end.text;
    });

  it("is the named host, with a certificate of the same authority", async () => {
    const { ferry: server, address } = await hosts.far("far", "hello");
    const eve = await relayFails("eve", hosts.relayArgs("eve", address, "eve"));
    expect(eve).toMatch(/^bob ended the negotiation: /);
    await server.says("refused: not the named host");
    const carol = await relayFails("carol", hosts.relayArgs("a", address, "alice", "carol"));
    expect(carol).toMatch(/it is bob, and carol was asked for/);
    const pki = ["--peer", "bob", "--pki", hosts.pkiOf("alice", "others")];
    const stranger = [address, "--socket-path", hosts.path("b.sock"), ...pki];
    expect(await relayFails("a stranger", stranger)).toMatch(/^no link to 127\.0\.0\.1:/);
    await hosts.near("near", address);
  }, 120_000);

  it("is one client, from here or there", async () => {
    const { socket, address } = await hosts.far("far", "hello");
    const local = new RemoteDevice(Connection.connect(socket), "local");
    expect(await relayFails("alice", hosts.relayArgs("near", address))).toMatch(
      /^bob already serves another client \(EBUSY\)\.$/,
    );
    local.close();
    await hosts.near("near", address);
    expect(() => Connection.connect(socket)).toThrow(/EBUSY/);
  }, 120_000);

  it("and a device that is tied to a link is neither upgraded nor swapped over there", async () => {
    const { here, there } = await hosts.relayed("hello");
    const own = await hosts.local("own", "hello");
    for (const server of [here, there]) {
      const { code, errors } = await ferry("upgrade", server.socket);
      expect({ code, errors }).toMatchObject({ code: 1, errors: /tied to another host/ });
    }
    await expect(swap(there.socket, { to: own.socket })).rejects.toThrow(/on another host/);
    const vmm = new Vmm(here.socket);
    expect(register(vmm.device)).toBe(0);
    vmm.close();
  }, 120_000);

  it.each([
    [["--remote", "tls://127.0.0.1:0"], /--remote needs --pki FOLDER and --peer NAME/],
    [["--pki", "P", "--peer", "a"], /--pki and --peer are for --remote/],
    [["--count", "0"], /--count 0 serves nothing/],
    [["--count", "1e2"], /--count "1e2" is no whole number from 0 to 1024/],
    [["--remote", "unix:/x", "--pki", "P", "--peer", "a"], /unix:\/x is on this host/],
    [["--remote", "tls://:1", "--pki", "P", "--peer", "a"], /is no place/],
  ])("a command line that makes no sense: %j", async (args, sentence) => {
    const { code, text } = await Ferry.fails([
      ...["hello", "--socket-path", hosts.path("no.sock"), ...args],
    ]);
    expect(code).not.toBe(0);
    expect(text).toMatch(sentence);
  });
});

/** A host that proves to be bob, and does with a connection what a test wants. */
async function enemy(greet: (socket: TLSSocket) => void) {
  const options = { ...readIdentity(hosts.pkiOf("bob")), requestCert: true } as const;
  const server = createServer(options, (socket) => {
    socket.on("error", () => {});
    greet(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { address: `tls://127.0.0.1:${port}`, close: () => server.close() };
}

const posted = { isCommand: true, flags: HeaderFlags.mask.noReply } as const;
const flood = Buffer.concat(
  Array.from({ length: 2000 }, (_, i) => [
    encode({ id: i, command: 99, ...posted }),
    encode({ id: 0x8000 + i, command: 9, flags: MessageType.reply }),
    encode({ id: 0, command: OwnCommand.interrupt, ...posted, payload: words(4, 2, 0, 1) }),
  ]).flat(),
);

describe("a hostile host that serves", () => {
  it.each([
    ["is silent", () => {}, /the server did not answer in time/],
    [
      "announces more than any message has",
      (socket: TLSSocket) => socket.write(encode({ id: 1, command: 1, size: 2 ** 31 })),
      /the server sent a message of 2147483648 bytes/,
    ],
    ["hangs up", (socket: TLSSocket) => socket.end(), /the server closed the connection/],
    [
      "floods",
      (socket: TLSSocket) => {
        const more = (): void => {
          while (!socket.destroyed && socket.write(flood));
        };
        socket.on("drain", more);
        more();
      },
      /^bob /,
    ],
  ])(
    "%s: the relay says so and ends",
    async (_, greet, sentence) => {
      const server = await enemy(greet);
      const { code, text } = await Ferry.fails(hosts.relayArgs("near", server.address), "relay");
      server.close();
      expect(code).toBe(1);
      expect(text).toMatch(sentence);
    },
    120_000,
  );

  it("floods a VMM's device with what nobody asked for, and the VMM is served", async () => {
    const { socket: path } = await hosts.local("victim", "hello");
    const identity = readIdentity(hosts.pkiOf("bob"));
    const link = await hosts.link({ to: { path }, identity, flood });
    const { socket } = await hosts.near("near", link.address);
    const vmm = new Vmm(socket);
    link.tell("flood");
    for (let i = 0; i < 200; i++) expect(register(vmm.device)).toBe(0);
    vmm.close();
  }, 120_000);
});

describe("a hostile host that is served", () => {
  it("may hold places and say nothing or nonsense: others are served", async () => {
    const { ferry: server, socket, address } = await hosts.far("far", "hello");
    const port = Number(/\d+$/.exec(address)?.[0]);
    const identity = readIdentity(hosts.pkiOf("alice"));
    const options = { port, host: "127.0.0.1", ...identity, checkServerIdentity: () => undefined };
    const dial = () =>
      new Promise<TLSSocket>((resolve) => {
        const made = tlsConnect(options, () => resolve(made));
        made.on("error", () => {});
      });
    const silent = await Promise.all(Array.from({ length: 12 }, dial));
    silent[0]?.write(Buffer.alloc(4096, 0xff));
    silent[1]?.write(encode({ id: 1, command: 1, isCommand: true }).subarray(0, 7));
    silent[2]?.write(flood);
    const local = new RemoteDevice(connectWhenFree(socket), "local");
    expect(register(local)).toBe(0);
    local.close();
    for (const each of silent) each.destroy();
    await hosts.near("near", address);
    expect(server.alive).toBe(true);
    expect(server.noise).toBe("");
  }, 120_000);
});
