/**
 * The thread of one device. It runs nothing but a loop around the session: the event loop of this
 * thread is never entered again once the device is made, so nothing here may depend on it.
 */
import { performance } from "node:perf_hooks";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { assert, unreachable } from "../base/assert.ts";
import { errno, errnoName } from "../base/errno.ts";
import { FerryError, messageOf } from "../base/errors.ts";
import { describeDevice } from "../device/description.ts";
import type { LineState, Wiring } from "../device/vfio-device.ts";
import { masterNames } from "../migration/hosts/refusals.ts";
import { offerOf } from "../migration/identity.ts";
import { End, Session } from "../server/session.ts";
import { threadId } from "../sys/signal.ts";
import { ControlWord } from "./control-words.ts";
import { IdleTurns } from "./idle-turns.ts";
import type { Lent, Letter, Notice, ParkedDevice, WorkerStart } from "./mail.ts";
import { makeDevice } from "./make-device.ts";
import { MigrationDesk, type Reply } from "./migration-desk.ts";

const { spec, words } = workerData as WorkerStart;
assert(parentPort !== null, "worker.ts runs as a worker");
const port = parentPort;
const tell = (notice: Notice): void => port.postMessage(notice);

const made = await makeDevice(spec).catch((thrown: unknown) => {
  const code = thrown instanceof FerryError ? thrown.code : "no-device";
  tell({ kind: "failed", code, reason: messageOf(thrown) });
  process.exit();
});
const { device } = made;
const mailWaits = (): boolean =>
  Atomics.load(words, ControlWord.posted) !== Atomics.load(words, ControlWord.taken);
/** From here on the thread may block: whoever posts after this look has to wake it. */
const interrupted = (): boolean => {
  Atomics.store(words, ControlWord.blocks, 1);
  return mailWaits() || mayPark();
};
const session = new Session(device, interrupted, () => performance.now());
const desk = new MigrationDesk(device.name, made.migratable, session);
const idle = new IdleTurns(device);
const unwired: Wiring = { mappings: [], irqs: [], ioEventfds: [], files: [] };
let stopped = false;
/** How long output may take that is being written over its own input. */
const restMsMax = 500;
/** Who waits for the device to be parked, and how long at most. */
let parking: { readonly reply: Reply; readonly untilMs: number } | null = null;

/**
 * Parks the device as soon as that ends nothing that could not run again; a client that takes no
 * output keeps nobody waiting.
 */
function parkSoon(reply: Reply): void {
  parking = { reply, untilMs: performance.now() + restMsMax };
  session.waits = false;
}

function mayPark(): boolean {
  if (parking === null) return false;
  const rests = !session.connected || (device.rest?.(true) ?? true);
  return rests || performance.now() >= parking.untilMs;
}

function parkIfReady(): void {
  if (parking === null || !mayPark()) return;
  const { reply } = parking;
  parking = null;
  session.waits = true;
  attempt(reply, () => reply.answer(park()));
  // One that stays goes on.
  device.rest?.(false);
}

/** A device at rest; its client, if there is one, waits. */
function park(): ParkedDevice {
  const master = made.migratable?.master ?? "none";
  if (master !== "none") {
    const who = masterNames[master];
    throw new FerryError("not-parkable", `${device.name} cannot be parked now: ${who} moves it.`);
  }
  if (session.isRemote) throw remoteClient("parked");
  const wiring = session.connected ? device.park() : null;
  if (device.state === null || (session.connected && wiring === null)) {
    throw new FerryError("not-parkable", `${device.name} cannot be parked now.`);
  }
  const connection = session.connected ? session.export() : null;
  return { connection, wiring, state: device.state.slice() };
}

const remoteClient = (what: string): FerryError =>
  new FerryError("busy", `the client of ${device.name} is on another host: it cannot be ${what}.`);

function install({ wiring, state }: Pick<ParkedDevice, "wiring" | "state">): void {
  const result = device.takeUp(wiring ?? unwired, state);
  if (result < 0) {
    const reason = errnoName(result);
    throw new FerryError("not-taken", `${device.name} refused a parked state: ${reason}.`);
  }
}

/** What the client has connected; null when there is none. */
function wiringNow(): Wiring | null {
  if (!session.connected) return null;
  if (session.isRemote) throw remoteClient("swapped");
  const wiring = device.wiring?.() ?? null;
  if (wiring !== null) return wiring;
  throw new FerryError("busy", `the VMM of ${device.name} logs what it writes: let it end that.`);
}

function offer(): ReturnType<typeof offerOf> {
  wiringNow();
  return offerOf(device);
}

function lend(resets: number): Lent {
  const wiring = wiringNow();
  if (made.migratable?.resets !== resets) {
    throw new FerryError("guest-reset", `the guest has reset ${device.name}; it runs on.`);
  }
  return { connection: session.connected ? session.export() : null, wiring };
}

function wire(wiring: Wiring): void {
  const result = device.wire?.(wiring) ?? -errno.EOPNOTSUPP;
  if (result < 0) {
    const reason = errnoName(result);
    throw new FerryError("not-taken", `${device.name} cannot take a client over: ${reason}.`);
  }
}

/** Only a migration has an end that lets go of it. */
function holdLine(): LineState | null {
  if (made.migratable?.master !== "operator") {
    throw new FerryError("not-migrating", `${device.name} is not being migrated.`);
  }
  return device.holdLine?.(true) ?? null;
}

/** Does what a letter asks and returns the answer. */
function obey(letter: Letter): unknown {
  switch (letter.op) {
    case "open":
      session.open(letter.ask.fd, letter.ask.unparsed, desk.ordered);
      return null;
    case "install":
      install(letter.ask);
      return null;
    case "resume":
      session.takeUp(letter.ask);
      return null;
    case "freeze":
      session.freeze(letter.ask.mode);
      return null;
    case "report": {
      const { connected, frozen, served } = session;
      const counters = device.counters ?? {};
      return { device: describeDevice(device), connected, frozen, served, counters };
    }
    case "served":
      return session.served;
    case "holdLine":
      return holdLine();
    case "offer":
      return offer();
    case "lend":
      return lend(letter.ask.resets);
    case "wire":
      wire(letter.ask);
      return null;
    case "unwire":
      device.detach();
      device.attach(null);
      return null;
    case "stop":
      if (session.connected) session.close();
      stopped = true;
      return null;
    default:
      return unreachable(letter as never);
  }
}

/** Byte arrays are handed over, not copied. */
function replyTo(id: number): Reply {
  return {
    answer: (answer) => {
      const handed = answer instanceof Uint8Array ? [answer.buffer as ArrayBuffer] : [];
      port.postMessage({ kind: "answer", id, answer } satisfies Notice, handed);
    },
    refuse: ({ code, message: reason }) => tell({ kind: "refusal", id, code, reason }),
  };
}

function readMail(): void {
  Atomics.store(words, ControlWord.blocks, 0);
  while (mailWaits()) {
    const received = receiveMessageOnPort(port) as { message: Letter } | undefined;
    if (received === undefined) continue;
    Atomics.add(words, ControlWord.taken, 1);
    const letter = received.message;
    const reply = replyTo(letter.id);
    attempt(reply, () => {
      if (letter.op === "park") parkSoon(reply);
      else if (!desk.obey(letter, reply)) reply.answer(obey(letter));
    });
  }
}

/** What cannot be done is refused, with the reason. */
function attempt(reply: Reply, act: () => void): void {
  try {
    act();
  } catch (thrown) {
    if (!(thrown instanceof FerryError)) throw thrown;
    reply.refuse(thrown);
  }
}

Atomics.store(words, ControlWord.thread, threadId());
tell({ kind: "ready" });
while (!stopped) {
  if (!session.connected) {
    if (!idle.turn())
      Atomics.wait(words, ControlWord.posted, Atomics.load(words, ControlWord.taken));
  } else if (session.run() === End.closed) {
    session.close();
    tell({ kind: "ended" });
  }
  readMail();
  parkIfReady();
}
port.close();
