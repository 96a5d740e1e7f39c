/**
 * What a blackout costs here before anybody does any work in it: the same processes, threads, links
 * and durable writes as in a migration, each of which only passes a message on. A host is a process
 * with a thread for its device; the guest is this one.
 *
 *   guest -> alice: be saved, twice to her device; it is saved -> guest
 *   alice: a piece from her device -> bob over TLS: to his device, checked there, written down
 *   bob -> alice -> guest: it is there; guest -> alice: hand over; sealed, written down -> bob
 *   bob: written down, his device goes on -> guest
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { readIdentity } from "../../src/host/links/tls.ts";
import type { Hosts } from "./hosts.ts";

/** A VF with 16 queues has about so many bytes. */
const stateBytes = 16_384;
const recordBytes = 256;
const minVersion = "TLSv1.3";
const self = fileURLToPath(import.meta.url);
/** The thread of a device. */
const echo = `const { parentPort } = require("node:worker_threads");
parentPort.on("message", (what) => parentPort.postMessage(what));`;
/** What is said, one byte each; a device's state ends in the last of them. */
const Word = { save: 1, saved: 2, arrived: 3, handOver: 4, commit: 5, runs: 6, state: 7 } as const;

/** Calls `hear` with the last byte of everything that comes. */
function listen(socket: Socket, hear: (word: number) => unknown): void {
  socket.setNoDelay?.();
  socket.on("data", (bytes: Uint8Array) => void hear(bytes.at(-1) ?? 0));
}

const say = (socket: Socket, word: number): boolean => socket.write(Uint8Array.of(word));

/** A host: its device is a thread that answers. */
class BareHost {
  readonly #device = new Worker(echo, { eval: true });
  readonly #journal: FileHandle;
  guest: Socket | null = null;
  link: Socket | null = null;

  constructor(journal: FileHandle) {
    this.#journal = journal;
  }

  async #ask(what: unknown): Promise<Uint8Array> {
    const answer = once(this.#device, "message");
    this.#device.postMessage(what);
    return (await answer)[0] as Uint8Array;
  }

  async #record(): Promise<void> {
    await this.#journal.write(new Uint8Array(recordBytes));
  }

  /** What the guest says. */
  async hearGuest(word: number): Promise<void> {
    const { guest, link } = this;
    if (guest === null || link === null) return;
    await this.#ask(word);
    if (word === Word.save) {
      await this.#ask(word);
      say(guest, Word.saved);
      const state = new Uint8Array(stateBytes);
      state.set(await this.#ask(state));
      state[stateBytes - 1] = Word.state;
      link.write(state);
    } else {
      await this.#record();
      say(link, Word.commit);
    }
  }

  /** What the other host says. */
  async hearHost(word: number): Promise<void> {
    const { guest, link } = this;
    if (guest === null || link === null) return;
    if (word === Word.arrived) say(guest, Word.arrived);
    if (word === Word.state) {
      await this.#ask(new Uint8Array(stateBytes));
      await this.#ask(word);
      await this.#record();
      say(link, Word.arrived);
    }
    if (word === Word.commit) {
      await this.#record();
      await this.#ask(word);
      say(guest, Word.runs);
    }
  }
}

async function serve([path = "", pki = "", port = ""]: readonly string[]): Promise<void> {
  const host = new BareHost(await open(`${path}.journal`, "as+"));
  const identity = { ...readIdentity(pki), minVersion } as const;
  const link = (socket: Socket): void => {
    host.link = socket;
    listen(socket, (word) => host.hearHost(word));
  };
  const server = createServer((socket) => {
    host.guest = socket;
    listen(socket, (word) => host.hearGuest(word));
  });
  await new Promise<void>((resolve) => server.listen(path, () => resolve()));
  if (port === "") {
    const tls = createTlsServer(identity, link);
    await new Promise<void>((resolve) => tls.listen(0, "127.0.0.1", () => resolve()));
    process.send?.((tls.address() as AddressInfo).port);
    return;
  }
  const checkServerIdentity = (): undefined => undefined;
  const place = { ...identity, host: "127.0.0.1", port: Number(port), checkServerIdentity };
  const socket = connectTls(place, () => {
    link(socket);
    process.send?.(0);
  });
}

async function start(hosts: Hosts, at: number, port = ""): Promise<[ChildProcess, Socket, number]> {
  const path = join(hosts.folder, `bare-${at}.sock`);
  const child = fork(self, [path, hosts.plans[at]?.pki ?? "", port]);
  const [said] = (await once(child, "message")) as [number];
  const socket = connect(path);
  await once(socket, "connect");
  return [child, socket, said];
}

/** So many blackouts in which nothing is done, in milliseconds. */
export async function bareBlackouts(hosts: Hosts, times: number): Promise<number[]> {
  const [bobs, bob, port] = await start(hosts, 1);
  const [alices, alice] = await start(hosts, 0, `${port}`);
  const taken: number[] = [];
  try {
    for (let i = 0; i < times; i++) {
      const runs = once(bob, "data");
      const begun = performance.now();
      say(alice, Word.save);
      for (let word = 0; word !== Word.arrived; ) {
        word = ((await once(alice, "data")) as [Uint8Array])[0].at(-1) ?? 0;
      }
      say(alice, Word.handOver);
      await runs;
      taken.push(performance.now() - begun);
    }
  } finally {
    for (const socket of [alice, bob]) socket.destroy();
    for (const child of [alices, bobs]) child.kill("SIGKILL");
  }
  return taken;
}

if (process.argv[1] === self) await serve(process.argv.slice(2));
