/**
 * A process hands its devices over to its successor while their clients stay connected. The old one
 * may go on until it has said `go`, the new one may not begin before it has heard it: there are
 * never
 * two owners, whichever of them dies.
 */
import { rmSync } from "node:fs";
import { createConnection } from "node:net";
import { FerryError } from "../base/errors.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { POLLIN } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { acceptUnix, connectUnix, listenUnix } from "../sys/unix.ts";
import { type Cargo, receiveCargo, sendCargo } from "./handover.ts";
import type { Berth, Host } from "./host.ts";
import type { DeviceSpec } from "./mail.ts";

/** What the two sides say after the cargo, one byte each. */
const Word = { ready: 0x52, go: 0x47 } as const;

/** How long either side waits for the other's next step; clients wait meanwhile. */
export const stepTimeoutMs = 3000;

const scratch = new Arena(4096);

/** Says one byte; false when the other side has gone. */
function say(socket: number, word: number): boolean {
  const channel = new Channel(socket);
  scratch.view.setUint8(0, word);
  const sent = channel.send(scratch.address, 1);
  channel.free();
  return sent === 1;
}

/** Waits for one byte; -1 when none came in time. */
async function hear(socket: number, timeoutMs: number): Promise<number> {
  if (!(await readable(socket, timeoutMs))) return -1;
  const channel = new Channel(socket);
  const received = channel.receive(scratch.address, 1);
  channel.free();
  return received === 1 ? scratch.view.getUint8(0) : -1;
}

async function readable(fd: number, timeoutMs: number): Promise<boolean> {
  const poll = new PollSet(1);
  poll.add(fd, POLLIN);
  return (await poll.waitAsync(timeoutMs)) > 0;
}

/** The old side: everything goes to whoever listens on `path`. True means: end without a trace. */
export async function handOver(host: Host, path: string): Promise<boolean> {
  const socket = connectUnix(path);
  if (socket < 0) throw new FerryError("no-successor", `no successor listens on ${path}.`);
  const parked = await parkAll(host.berths);
  try {
    sendCargo(
      socket,
      parked.map(({ cargo }) => cargo),
    );
    if ((await hear(socket, stepTimeoutMs)) === Word.ready && say(socket, Word.go)) return true;
  } catch (thrown) {
    if (!(thrown instanceof FerryError)) throw thrown;
  } finally {
    closeFd(socket);
  }
  for (const { berth, cargo } of parked) {
    await berth.device.install(cargo.parked);
    await berth.device.resume(cargo.parked);
  }
  return false;
}

async function parkAll(berths: readonly Berth[]): Promise<Array<{ berth: Berth; cargo: Cargo }>> {
  return await Promise.all(
    berths.map(async (berth) => {
      const { device, listenFd, socketPath } = berth;
      const parked = await device.park();
      return { berth, cargo: { spec: device.spec, socketPath, listenFd, parked } };
    }),
  );
}

/** Asks a control socket one question. */
export function askControl(path: string, request: object): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("error", (error) => reject(noControl(path, error)));
    socket.on("end", () => reject(noControl(path, new Error("it closed the connection"))));
    socket.on("data", (text: string) => {
      answer += text;
      if (!answer.includes("\n")) return;
      socket.destroy();
      resolve(JSON.parse(answer) as Record<string, unknown>);
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
}

const noControl = (path: string, error: Error): FerryError =>
  new FerryError("no-control", `the control socket ${path} does not answer: ${error.message}.`);

/**
 * The new side: makes the same devices as the process behind `controlPath`, then takes over. The
 * workers are started before the old process is asked, so that clients wait for the handover alone.
 */
export async function takeOver(host: Host, controlPath: string): Promise<void> {
  const manifest = await askControl(controlPath, { method: "manifest" });
  const specs = (manifest["devices"] ?? []) as DeviceSpec[];
  const devices = await Promise.all(specs.map((spec) => host.make(spec)));
  const path = `${controlPath}.${process.pid}`;
  const listener = listenUnix(path, 1);
  let socket = -1;
  try {
    const handedOver = askControl(controlPath, { method: "hand-over", to: path });
    handedOver.catch(() => {});
    if (!(await readable(listener, stepTimeoutMs))) await refuse(handedOver);
    socket = acceptUnix(listener);
    const cargo = receiveCargo(socket);
    if (cargo.length !== devices.length) throw refused("it serves other devices now");
    await Promise.all(cargo.map(({ parked }, i) => devices[i]?.install(parked)));
    if (!say(socket, Word.ready)) throw refused("it has gone");
    if ((await hear(socket, stepTimeoutMs)) !== Word.go) throw refused("it keeps its devices");
    for (const [i, device] of devices.entries()) {
      const { parked, listenFd, socketPath } = cargo[i] as Cargo;
      await device.resume(parked);
      host.moor({ device, listenFd, socketPath });
    }
  } finally {
    closeFd(socket);
    closeFd(listener);
    rmSync(path, { force: true });
  }
}

const refused = (why: string): FerryError =>
  new FerryError("not-handed-over", `the process to succeed does not hand over: ${why}.`);

async function refuse(handedOver: Promise<Record<string, unknown>>): Promise<never> {
  const answer = await Promise.race([handedOver, Promise.resolve({ error: "it does not answer" })]);
  throw refused(String((answer as Record<string, unknown>)["error"]));
}
