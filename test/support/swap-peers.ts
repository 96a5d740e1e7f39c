/** The two sides of a swap as a test plays them: they go as far as they are told, and then die. */
import { rmSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { FerryError } from "../../src/base/errors.ts";
import { askControl } from "../../src/host/control-line.ts";
import { ControlSocket } from "../../src/host/control-socket.ts";
import { SwapLink } from "../../src/host/swap-link.ts";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { acceptUnix, connectUnix, listenUnix } from "../../src/sys/unix.ts";
import { until } from "./ferry.ts";

/** No word takes so long unless something hangs. */
const wordMs = 20_000;
/** So often a swap is tried that takes too long. */
const triesMax = 10;
export const soon = (): number => performance.now() + wordMs;

/** What a source asks. */
export interface SwapArrival {
  readonly from: string;
  readonly compatibility: object;
  readonly offer: object;
}

/** What a source has said. */
export interface Said {
  readonly data: Uint8Array[];
  client: Uint8Array;
  fds: readonly number[];
}

/** Asks a server to swap its device. */
export async function swap(from: string, request: object): Promise<SwapReport> {
  return (await askControl(`${from}.ctl`, { method: "swap", ...request })) as SwapReport;
}

/** The same again while it stays where it is because all of it takes too long: others work too. */
export async function swapInTime(from: string, request: object): Promise<SwapReport> {
  for (let tries = 1; ; tries++) {
    try {
      return await swap(from, request);
    } catch (thrown) {
      const isLate = thrown instanceof FerryError && thrown.code === "too-late";
      if (!isLate || tries === triesMax) throw thrown;
    }
  }
}

/** A server that a device is to go to; `play` is what it does instead of taking it. */
export class FakeTarget {
  readonly path: string;
  readonly #control: ControlSocket;

  private constructor(path: string, control: ControlSocket) {
    this.path = path;
    this.#control = control;
  }

  static async listen(
    path: string,
    play: (arrival: SwapArrival) => Promise<unknown>,
  ): Promise<FakeTarget> {
    const method = (request: unknown) => play(request as SwapArrival);
    return new FakeTarget(path, await ControlSocket.listen(path, { "swap-in": method }));
  }

  /** As a process that is killed. */
  [Symbol.dispose](): void {
    this.#control.close();
  }
}

/** Connects to a source. */
export const dialSource = ({ from }: SwapArrival): SwapLink => new SwapLink(connectUnix(from));

/** Hears the device's state to its end. */
export async function hearState(link: SwapLink, said: Said): Promise<void> {
  for (;;) {
    const { word, body } = await link.receive(["data", "end"], soon());
    if (word === "end") return;
    said.data.push(body);
  }
}

/** Hears the client. */
export async function hearClient(link: SwapLink, said: Said): Promise<void> {
  const { body, fds } = await link.receive(["client"], soon());
  said.client = body;
  said.fds = fds;
}

export const nothingSaid = (): Said => ({ data: [], client: new Uint8Array(0), fds: [] });

/** Descriptors that a fake target has, as its death closes them. */
export function forget(said: Said): void {
  for (const fd of said.fds) closeFd(fd);
  said.fds = [];
}

/** Calls at a real target as a source does; what it answers, and the link. */
export async function callTarget(
  socketPath: string,
  arrival: SwapArrival,
  meeting: string,
): Promise<{ readonly link: SwapLink; readonly answer: Promise<unknown> }> {
  const listener = listenUnix(meeting, 1);
  const request = { ...arrival, device: socketPath, method: "swap-in", from: meeting };
  const answer = askControl(`${socketPath}.ctl`, request);
  answer.catch(() => {});
  let socket = -1;
  await until(() => (socket = acceptUnix(listener)) >= 0, "the target connects");
  closeFd(listener);
  rmSync(meeting, { force: true });
  return { link: new SwapLink(socket), answer };
}
