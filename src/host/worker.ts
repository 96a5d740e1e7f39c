/**
 * The thread of one device. It runs nothing but a loop around the session: the event loop of this
 * thread is never entered again once the device is made, so nothing here may depend on it.
 */
import { performance } from "node:perf_hooks";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { assert } from "../base/assert.ts";
import { errnoName } from "../base/errno.ts";
import { FerryError, messageOf } from "../base/errors.ts";
import { describeDevice } from "../device/description.ts";
import type { VfioDevice, Wiring } from "../device/vfio-device.ts";
import { End, Session } from "../server/session.ts";
import { threadId } from "../sys/signal.ts";
import { ControlWord } from "./control-words.ts";
import type { Letter, Notice, ParkedDevice, WorkerStart } from "./mail.ts";

const { spec, words } = workerData as WorkerStart;
assert(parentPort !== null, "worker.ts runs as a worker");
const port = parentPort;
const tell = (notice: Notice): void => port.postMessage(notice);

const device = await make().catch((thrown: unknown) => {
  const code = thrown instanceof FerryError ? thrown.code : "no-device";
  tell({ kind: "failed", code, reason: messageOf(thrown) });
  process.exit();
});
const mailWaits = (): boolean =>
  Atomics.load(words, ControlWord.posted) !== Atomics.load(words, ControlWord.taken);
const session = new Session(device, mailWaits, () => performance.now());
const unwired: Wiring = { mappings: [], irqs: [], ioEventfds: [] };
let stopped = false;

/** What a device's module exports. */
interface DeviceModule {
  create?(options: Readonly<Record<string, string>>): VfioDevice;
  readonly options?: Readonly<Record<string, unknown>>;
}

async function make(): Promise<VfioDevice> {
  const { create, options } = (await import(spec.module)) as DeviceModule;
  if (create === undefined) {
    throw new FerryError("no-device", `${spec.name} exports no function create(options).`);
  }
  const known = Object.keys(options ?? {});
  const unknown = Object.keys(spec.options).find((name) => !known.includes(name));
  if (options !== undefined && unknown !== undefined) {
    const list = known.length === 0 ? "none" : known.join(", ");
    throw new FerryError(
      "unknown-option",
      `${spec.name} has no option ${unknown}; it has ${list}.`,
    );
  }
  return create(spec.options);
}

/** A device at rest; its client, if there is one, waits. */
function park(): ParkedDevice {
  const wiring = session.connected ? device.park() : null;
  if (device.state === null || (session.connected && wiring === null)) {
    throw new FerryError("not-parkable", `${device.name} cannot be parked now.`);
  }
  const connection = session.connected ? session.export() : null;
  return { connection, wiring, state: device.state.slice() };
}

function install({ wiring, state }: Pick<ParkedDevice, "wiring" | "state">): void {
  const result = device.takeUp(wiring ?? unwired, state);
  if (result < 0) {
    const reason = errnoName(result);
    throw new FerryError("not-taken", `${device.name} refused a parked state: ${reason}.`);
  }
}

/** Does what a letter asks and returns the answer. */
function obey(letter: Letter): unknown {
  switch (letter.op) {
    case "open":
      session.open(letter.ask.fd, letter.ask.unparsed);
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
    case "park":
      return park();
    case "report": {
      const { connected, frozen, served } = session;
      return { device: describeDevice(device), connected, frozen, served };
    }
    case "stop":
      if (session.connected) session.close();
      stopped = true;
      return null;
  }
}

function readMail(): void {
  while (mailWaits()) {
    const received = receiveMessageOnPort(port) as { message: Letter } | undefined;
    if (received === undefined) continue;
    const { id } = received.message;
    try {
      tell({ kind: "answer", id, answer: obey(received.message) });
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
      tell({ kind: "refusal", id, reason: thrown.message });
    }
    Atomics.add(words, ControlWord.taken, 1);
    Atomics.notify(words, ControlWord.taken);
  }
}

Atomics.store(words, ControlWord.thread, threadId());
tell({ kind: "ready" });
while (!stopped) {
  if (!session.connected) {
    Atomics.wait(words, ControlWord.posted, Atomics.load(words, ControlWord.taken));
  } else if (session.run() === End.closed) {
    session.close();
    tell({ kind: "ended" });
  }
  readMail();
}
port.close();
