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
import { offerOf } from "../migration/identity.ts";
import { End, Session } from "../server/session.ts";
import { threadId } from "../sys/signal.ts";
import { ControlWord, sealOf } from "./control-words.ts";
import { IdleTurns } from "./idle-turns.ts";
import type { Lent, Letter, Notice, WorkerStart } from "./mail.ts";
import { makeDevice } from "./make-device.ts";
import { MigrationDesk, obeying, type Reply } from "./migration-desk.ts";
import { install, Parking, remoteClient } from "./parking.ts";

const { spec, words } = workerData as WorkerStart;
assert(parentPort !== null, "worker.ts runs as a worker");
const port = parentPort;
const tell = (notice: Notice): void => port.postMessage(notice);

const made = await makeDevice(spec, sealOf(words)).catch((thrown: unknown) => {
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
  return mailWaits() || parking.due;
};
const now = (): number => performance.now();
const session = new Session(device, interrupted, now);
const parking = new Parking({ device, migratable: made.migratable, session, now });
const desk = new MigrationDesk(device.name, made.migratable, session);
const idle = new IdleTurns(device);
let stopped = false;

/** What the client has connected; null when there is none. */
function wiringNow(): Wiring | null {
  if (!session.connected) return null;
  if (session.isRemote) throw remoteClient(device, "swapped");
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
      install(device, letter.ask);
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
    obeying(reply, () => {
      if (letter.op === "park") parking.ask(reply);
      else if (!desk.obey(letter, reply)) reply.answer(obey(letter));
    });
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
  parking.turn();
}
port.close();
