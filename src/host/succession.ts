/**
 * A process hands its devices over to its successor while their clients stay connected. The old one
 * may go on until it has heard `own`, and the new one says that only after it has heard `go`: there
 * are never two owners, whichever of them dies. After `go` the old one waits for as long as the new
 * one lives: a successor that ends without a word has served nobody, and the old one goes on.
 */
import { rmSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { FerryError, messageOf } from "../base/errors.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { POLLIN, SOCK_NONBLOCK } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { acceptUnix, connectUnix, listenUnix, peerProcess } from "../sys/unix.ts";
import { askControl } from "./control-line.ts";
import { type Cargo, receiveCargo, sendCargo } from "./handover.ts";
import type { Berth, Host } from "./host.ts";
import { handoverFormat, type Manifest, readCall, type Succession } from "./manifest.ts";
import type { ServedDevice } from "./served-device.ts";
import { ownVersion } from "./version.ts";

/** What the two sides say after the cargo, one byte each. */
const Word = { ready: 0x52, go: 0x47, own: 0x4f } as const;

/** How long either side waits for the other until `go`; a VMM waits for 5 s. */
export const stepTimeoutMs = 3000;
const forever = -1;
/** How long the reason of a refusal may take that is known to have come. */
const reasonMs = 500;

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

interface Parked {
  readonly berth: Berth;
  readonly cargo: Cargo;
}

/**
 * The old side: everything goes to the successor that asks. The process id of the new owner is the
 * answer, and this process has to end without a trace then. Whatever fails before is thrown, and
 * clients are served here again.
 */
export async function handOver(host: Host, request: unknown): Promise<number> {
  const path = readCall(request);
  const socket = connectUnix(path, SOCK_NONBLOCK);
  if (socket < 0) throw new FerryError("no-successor", `no successor listens on ${path}.`);
  const untilMs = performance.now() + stepTimeoutMs;
  const parked: Parked[] = [];
  try {
    await parkAll(host.berths, parked);
    const cargo = parked.map(({ cargo: each }) => each);
    await sendCargo(socket, cargo, untilMs);
    const leftMs = Math.max(0, Math.ceil(untilMs - performance.now()));
    if ((await hear(socket, leftMs)) !== Word.ready) throw failed("did not get ready");
    if (!say(socket, Word.go)) throw failed("has gone");
    if ((await hear(socket, forever)) !== Word.own) throw failed("ended before it had the devices");
    return peerProcess(socket);
  } catch (thrown) {
    for (const { berth, cargo } of parked) {
      await berth.device.install(cargo.parked);
      await berth.device.resume(cargo.parked);
    }
    throw thrown;
  } finally {
    closeFd(socket);
  }
}

/** Those that were parked before one could not be are in `parked` too. */
async function parkAll(berths: readonly Berth[], parked: Parked[]): Promise<void> {
  const parking = berths.map(async (berth) => {
    const { device, listenFd, socketPath } = berth;
    const cargo = { spec: device.spec, socketPath, listenFd, parked: await device.park() };
    parked.push({ berth, cargo });
  });
  const ends = await Promise.allSettled(parking);
  parked.sort((a, b) => berths.indexOf(a.berth) - berths.indexOf(b.berth));
  const refusal = ends.find((end) => end.status === "rejected");
  if (refusal !== undefined) throw refusal.reason;
}

/** What a successor needs beside the devices; `check` throws what speaks against a berth. */
export type CheckBerth = (berth: Berth, index: number) => Promise<void>;

/**
 * The new side: makes the same devices as the process behind `controlPath`, then takes over. The
 * workers are started before the old process is asked, so that clients wait for the handover alone.
 */
export async function takeOver(
  host: Host,
  controlPath: string,
  manifest: Manifest,
  check: CheckBerth,
): Promise<Succession> {
  const devices = await Promise.all(manifest.devices.map((spec) => host.make(spec)));
  const path = `${controlPath}.${process.pid}`;
  const listener = listenUnix(path, 1);
  let socket = -1;
  try {
    const request = { to: path, format: handoverFormat, version: ownVersion };
    const asked = askControl(controlPath, { ...request, method: "hand-over" });
    const why = asked.then(() => silence, messageOf);
    const beganMs = performance.now();
    // Refused before it is called, or called: whichever comes first.
    const called = readable(listener, stepTimeoutMs);
    const isCalled = await Promise.race([called, why.then(() => false)]);
    if (!isCalled) {
      closeFd(connectUnix(path, SOCK_NONBLOCK));
      await called;
      throw refused(await soon(why));
    }
    socket = acceptUnix(listener);
    const cargo = await receive(socket, why);
    if (cargo.length !== devices.length) throw refused("it serves other devices now.");
    const berths = cargo.map(({ listenFd, socketPath }, i) => {
      return { device: devices[i] as ServedDevice, listenFd, socketPath };
    });
    for (const [i, berth] of berths.entries()) await check(berth, i);
    await Promise.all(cargo.map(({ parked }, i) => devices[i]?.install(parked)));
    if (!say(socket, Word.ready)) throw refused(await soon(why));
    if ((await hear(socket, stepTimeoutMs)) !== Word.go) throw refused(await soon(why));
    // From here on the devices are ours, even if the old process has just died.
    say(socket, Word.own);
    for (const [i, { parked }] of cargo.entries()) await devices[i]?.resume(parked);
    for (const berth of berths) host.moor(berth);
    const waitedMs = performance.now() - beganMs;
    // Its journals and its control socket are free once it has ended.
    await hear(socket, stepTimeoutMs);
    return { version: manifest.version, pid: manifest.pid, waitedMs };
  } finally {
    closeFd(socket);
    closeFd(listener);
    rmSync(path, { force: true });
  }
}

/** A reason that the old process gives says more than that its connection has ended. */
async function receive(socket: number, why: Promise<string>): Promise<Cargo[]> {
  try {
    return receiveCargo(socket);
  } catch (thrown) {
    const reason = await soon(why);
    throw reason === silence ? thrown : refused(reason);
  }
}

/** Why the old process refused, if it says so soon. */
async function soon(why: Promise<string>): Promise<string> {
  const late = new Promise<string>((resolve) => setTimeout(resolve, reasonMs, silence));
  return await Promise.race([why, late]);
}

const failed = (what: string): FerryError =>
  new FerryError("not-handed-over", `the successor ${what}.`);

const refused = (why: string): FerryError =>
  new FerryError("not-handed-over", `the process to succeed does not hand over: ${why}`);

const silence = "it does not answer.";
