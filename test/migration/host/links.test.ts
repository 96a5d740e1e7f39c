import {
  existsSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeAuthority, makeHost } from "../../../src/cli/pki-files.ts";
import { type Address, formatAddress, parseAddress } from "../../../src/host/links/address.ts";
import { FileTarget } from "../../../src/host/links/file-target.ts";
import { hostLinks } from "../../../src/host/links/link-factory.ts";
import type { Frame, Link } from "../../../src/migration/hosts/link.ts";
import {
  dataBytesMax,
  decode,
  encode,
  messages,
} from "../../../src/migration/hosts/link-messages.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { temporaryFolder } from "../../support/ferry.ts";
import { isVerdict, TestHost } from "./control.ts";

const folder = temporaryFolder();
const pki = (host: string): string => join(folder.path, "pki", host);
const state = [1, 2, 3, 4, 5, 6, 7];
let files = 0;
const freshPath = (kind: string): string => join(folder.path, `${files++}.${kind}`);

beforeAll(async () => {
  const at = join(folder.path, "pki");
  const authority = await makeAuthority(at);
  for (const host of ["alice", "bob"]) await makeHost(at, authority, host);
}, 120_000);
afterAll(() => folder[Symbol.dispose]());

describe("addresses", () => {
  it.each(["tls://bob:7100", "tls://[::1]:7100", "unix:/run/bob.sock", "file:/var/state"])(
    "%s is what it says",
    (text) => expect(formatAddress(parseAddress(text))).toBe(text),
  );

  it.each(["bob:7100", "tls://bob", "tls://bob:99999", "http://bob:1", "file:", ""])(
    "%s is none",
    (text) => expect(() => parseAddress(text)).toThrow("write tls://HOST:PORT, unix:PATH or"),
  );
});

/** Both ends of a link of a kind. */
async function pair(kind: "tls" | "unix") {
  const address: Address =
    kind === "tls" ? { kind, host: "127.0.0.1", port: 0 } : { kind, path: freshPath("sock") };
  let greet: (link: Link) => void = () => {};
  const greeted = new Promise<Link>((resolve) => {
    greet = resolve;
  });
  const listener = await hostLinks.listen({ address, pki: pki("bob") }, (link) => greet(link));
  const place = { address: listener.address, pki: pki("alice"), peer: "bob" };
  const near = await hostLinks.dial(place);
  const far = await greeted;
  const close = (): void => {
    near.close();
    far.close();
    listener.close();
  };
  return { near, far, listener, close };
}

describe.each(["tls", "unix"] as const)("a link over %s", (kind) => {
  it("knows the other side", async () => {
    const { near, far, close } = await pair(kind);
    expect([near.peer, far.peer]).toEqual(kind === "tls" ? ["bob", "alice"] : ["local", "local"]);
    close();
  });

  it("carries frames of every size both ways, in order", async () => {
    const { near, far, close } = await pair(kind);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      for (const length of [0, 1, 65_536, dataBytesMax]) {
        const payload = new Uint8Array(length).fill(length % 251);
        await from.send({ type: messages.data.type, payload });
        const frame = await to.receive();
        expect(frame?.type).toBe(messages.data.type);
        expect(Buffer.compare(frame?.payload ?? Buffer.alloc(1), payload)).toBe(0);
      }
    }
    close();
  });

  it("holds a sender back whose frames nobody takes, and goes on when somebody does", async () => {
    const { near, far, close } = await pair(kind);
    let sent = 0;
    const payload = new Uint8Array(dataBytesMax);
    const all = 64;
    const sending = (async () => {
      for (; sent < all; sent++) await near.send({ type: messages.data.type, payload });
    })();
    let before = -1;
    while (sent !== before) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(sent).toBeLessThan(all);
    for (let i = 0; i < all; i++) {
      expect((await far.receive())?.payload.length).toBe(dataBytesMax);
    }
    await sending;
    close();
  });

  it("lets everybody go on who was held back, a PING beside DATA too", async () => {
    const { near, far, close } = await pair(kind);
    const payload = new Uint8Array(dataBytesMax);
    const frames = 16;
    const data = (async () => {
      for (let i = 0; i < frames; i++) await near.send({ type: messages.data.type, payload });
    })();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const pings = Array.from({ length: 2 }, () =>
      near.send({ type: messages.ping.type, payload: new Uint8Array(0) }),
    );
    for (let i = 0; i < frames + pings.length; i++) expect(await far.receive()).not.toBeNull();
    await Promise.all([data, ...pings]);
    close();
  });

  it("delivers the last words of a side that has closed it", async () => {
    const { near, far, close } = await pair(kind);
    // Unread bytes on the closing side must not take its last words back.
    const unread = { type: messages.data.type, payload: new Uint8Array(dataBytesMax) };
    near.send(unread).catch(() => {});
    await far.send({ type: messages.refuse.type, payload: Buffer.from("{}") as never });
    far.close();
    expect((await near.receive())?.type).toBe(messages.refuse.type);
    expect(await near.receive()).toBeNull();
    await expect(
      near.send({ type: messages.ping.type, payload: new Uint8Array(0) }),
    ).rejects.toThrow();
    close();
  });

  it("moves a device", async () => {
    const [alice, bob] = [new TestHost(state), new TestHost([])];
    const listen = kind === "tls" ? "tls://127.0.0.1:0" : `unix:${freshPath("sock")}`;
    const from = kind === "tls" ? "alice" : "local";
    const { token, address } = await bob.control.offer({ from, listen, pki: pki("bob") });
    const target = { to: address, token, pki: pki("alice"), peer: "bob" };
    expect(await alice.control.precheck(target)).toMatchObject({ compatible: true });
    const done = await alice.control.migrate(target);
    expect(done).toMatchObject({ outcome: "moved" });
    await bob.hears(isVerdict);
    expect([...bob.port.state]).toEqual(state);
    expect(done.report).toMatchObject({ side: "source", device: "fake", bytes: 16 });
    expect(done.report.theirs.map(({ phase }) => phase)).toContain("thaw");
    for (const host of [alice, bob]) host.control.halt();
  });
});

describe("a unix socket", () => {
  it("survives strangers who say what makes no sense", async () => {
    const bob = new TestHost([]);
    const listen = `unix:${freshPath("sock")}`;
    const offer = await bob.control.offer({ from: "local", listen });
    for (const bytes of [
      "GET / HTTP/1.1\r\n\r\n",
      "\x01\xff\xff\xff\xff",
      "\x01\x02\0\0\0{}",
      "",
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(listen.slice(5), () => socket.end(Buffer.from(bytes, "latin1")));
        socket.on("error", () => {});
        socket.resume().on("close", () => resolve());
      });
    }
    const alice = new TestHost(state);
    const done = await alice.control.migrate({ to: offer.address, token: offer.token });
    expect(done.outcome).toBe("moved");
    for (const host of [alice, bob]) host.control.halt();
  });

  it("is its owner's only", async () => {
    const { listener, close } = await pair("unix");
    const { path } = listener.address as { path: string };
    expect(statSync(path).mode & 0o777).toBe(0o600);
    close();
  });
});

describe("a file", () => {
  async function saved(what = state): Promise<{ path: string; alice: TestHost }> {
    const alice = new TestHost(what);
    const path = freshPath("state");
    const done = await alice.control.migrate({ to: `file:${path}` });
    expect(done.outcome).toBe("moved");
    return { path, alice };
  }

  it("answers a ping, so that a source may stand before it for long", async () => {
    const file = new FileTarget(freshPath("state"));
    await file.send(encode({ say: "ping" }));
    expect(decode((await file.receive()) as Frame)).toEqual({ say: "ping" });
    file.close();
  });

  it("takes a device, and gives it to the first who loads it", async () => {
    const { path, alice } = await saved();
    expect(alice.port.guest).toBe(false);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, "latin1").split("\n")[0]).toContain("It holds a guest's secrets");
    const bob = new TestHost([]);
    expect(await bob.control.load({ from: `file:${path}` })).toMatchObject({ outcome: "moved" });
    expect([...bob.port.state]).toEqual(state);
    expect(existsSync(path)).toBe(false);
    const carol = new TestHost([]);
    await expect(carol.control.load({ from: `file:${path}` })).rejects.toThrow("loaded by a host");
    expect(carol.port.guest).toBe(false);
  });

  it("keeps the order of pieces that are written at once", async () => {
    const many = Array.from({ length: 8192 }, (_, i) => i % 128);
    const { path } = await saved(many);
    const bob = new TestHost([]);
    await bob.control.load({ from: `file:${path}` });
    expect([...bob.port.state]).toEqual(many);
  });

  it("is not loaded twice by the same host, even as a copy", async () => {
    const { path } = await saved();
    const copy = freshPath("state");
    writeFileSync(copy, readFileSync(path));
    const bob = new TestHost([]);
    await bob.control.load({ from: `file:${path}` });
    bob.port.now = MigState.running;
    await expect(bob.control.load({ from: `file:${copy}` })).rejects.toThrow(
      "this migration was here before, and has moved.",
    );
  });

  it("that was refused is loaded once whatever was wrong is mended, and once only", async () => {
    const { path } = await saved();
    const copy = freshPath("state");
    writeFileSync(copy, readFileSync(path));
    const [from, again] = [{ from: `file:${path}` }, { from: `file:${copy}` }];
    const bob = new TestHost([]);
    for (const what of ["judge", "move STOP"]) {
      bob.port.failures.set(what, "it is not ready.");
      expect(await bob.control.load(from)).toMatchObject({ outcome: "kept" });
      bob.port.failures.clear();
    }
    bob.port.before = async (what) => {
      if (what !== "move STOP") return;
      await expect(bob.control.load(again)).rejects.toThrow("comes here already");
    };
    expect(await bob.control.load(from)).toMatchObject({ outcome: "moved" });
    bob.port.now = MigState.running;
    await expect(bob.control.load(again)).rejects.toThrow("was here before, and has moved.");
    expect(bob.journal.records.map(({ decision }) => decision)).toEqual([
      ...["expected", "own", "done"],
    ]);
  });

  it("is not let go by a host that could not write that it has come", async () => {
    const { path } = await saved();
    const bob = new TestHost([]);
    const { append } = bob.journal;
    bob.journal.append = async () => {
      expect(existsSync(path)).toBe(true);
      throw new Error("no space left on device");
    };
    expect(await bob.control.load({ from: `file:${path}` })).toMatchObject({ outcome: "kept" });
    bob.journal.append = append;
    expect(await bob.control.load({ from: `file:${path}` })).toMatchObject({ outcome: "moved" });
  });

  it("stays the owner when nobody can load it", async () => {
    const { path } = await saved();
    const bob = new TestHost([]);
    bob.port.failures.set("move STOP", "section 0x101: it makes no sense.");
    const done = await bob.control.load({ from: `file:${path}` });
    expect(done).toMatchObject({ outcome: "kept" });
    expect(done.sentence).toContain("section 0x101");
    expect(existsSync(path)).toBe(true);
    expect(bob.journal.records).toEqual([]);
    bob.port.failures.clear();
    const carol = new TestHost([]);
    expect(await carol.control.load({ from: `file:${path}` })).toMatchObject({ outcome: "moved" });
  });

  it("that was cut off is refused at every length, and left as it is", async () => {
    const { path } = await saved();
    const { size } = statSync(path);
    for (const cut of [1, 5, 6, 20, 30]) {
      const copy = freshPath("state");
      writeFileSync(copy, readFileSync(path));
      truncateSync(copy, size - cut);
      const bob = new TestHost([]);
      expect(await bob.control.load({ from: `file:${copy}` })).toMatchObject({ outcome: "kept" });
      expect(bob.port).toMatchObject({ guest: false, now: MigState.running });
      expect(statSync(copy).size).toBe(size - cut);
    }
  });

  it("that is no state is refused with its name", async () => {
    const path = freshPath("state");
    writeFileSync(path, "something else\n");
    const bob = new TestHost([]);
    await expect(bob.control.load({ from: `file:${path}` })).rejects.toThrow(
      `${path} holds no device's state: it has no such header.`,
    );
  });

  it("does not take the place of another", async () => {
    const { path } = await saved();
    const again = new TestHost(state);
    const done = await again.control.migrate({ to: `file:${path}` });
    expect(done.sentence).toContain("is there already: name another file");
    expect(again.port.acts).toBe(true);
  });

  it("that is not complete when the source is asked for its decision is given up", async () => {
    const { path } = await saved();
    const { token } = JSON.parse(/\{.*\}/.exec(readFileSync(path, "utf8"))?.[0] ?? "") as {
      token: string;
    };
    const knows = async (): Promise<unknown> => {
      const link = await hostLinks.dial({ address: { kind: "file", path } });
      const payload = Buffer.from(JSON.stringify({ token })) as Uint8Array<ArrayBuffer>;
      await link.send({ type: messages.query.type, payload });
      const frame = await link.receive();
      link.close();
      return JSON.parse(Buffer.from(frame?.payload ?? []).toString()) as unknown;
    };
    expect(await knows()).toMatchObject({ fate: "own" });
    renameSync(path, `${path}.taken`);
    expect(await knows()).toMatchObject({ fate: "own" });
    renameSync(`${path}.taken`, `${path}.part`);
    expect(await knows()).toMatchObject({ fate: "never" });
    expect(existsSync(`${path}.part`)).toBe(false);
    expect(await knows()).toMatchObject({ fate: "undecided" });
  });
});
