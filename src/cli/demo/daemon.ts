import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { FerryError } from "../../base/errors.ts";
import { isServed } from "../../sys/unix.ts";
import type { Berth } from "./messages.ts";

const startMs = 15_000;
const stopMs = 10_000;
const lookEveryMs = 10;

/** This very program, as it is running: compiled, or as its sources. */
const isSource = import.meta.url.endsWith(".ts");
const program = fileURLToPath(new URL(isSource ? "../main.ts" : "../main.js", import.meta.url));

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** A time limit for something else: it does not keep the program alive. */
const limit = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms).unref());

/** A `ferry serve` in a process of its own: the device that moves, and its neighbour's. */
export class Daemon {
  readonly device: string;
  readonly berth: Berth;
  /** The socket of the neighbour's VF. */
  readonly neighbour: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #endWithUs = (): void => void this.#child.kill("SIGKILL");
  #said = "";

  /** `port` is where it is going to take devices in; `options` go to `ferry serve`. */
  constructor(device: string, folder: string, port: number, options: readonly string[] = []) {
    const socket = (n: number | string): string => `${folder}/${device}-${n}.sock`;
    this.device = device;
    this.berth = {
      socket: socket(0),
      control: `${folder}/${device}.ctl`,
      address: `tls://127.0.0.1:${port}`,
    };
    this.neighbour = socket(1);
    const places = ["--socket-path", socket("{n}"), "--count", "2"];
    const control = ["--control", this.berth.control];
    const args = [program, "serve", device, ...places, ...control, ...options];
    this.#child = spawn(process.execPath, args, {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-4096);
    });
    this.#exited = once(this.#child, "exit");
    process.on("exit", this.#endWithUs);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get #isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until it answers: a socket's file is there a moment before. */
  async ready(): Promise<void> {
    const endMs = performance.now() + startMs;
    while (!isServed(this.berth.control)) {
      if (!this.#isRunning || performance.now() > endMs) {
        throw new FerryError("no-server", `${this.device} did not start:\n${this.#said.trim()}`);
      }
      await pause(lookEveryMs);
    }
  }

  /** Asks it to end and waits for it: true when it ended in order. */
  async stop(): Promise<boolean> {
    process.off("exit", this.#endWithUs);
    this.#child.kill("SIGTERM");
    await Promise.race([this.#exited, limit(stopMs)]);
    if (this.#isRunning) this.#child.kill("SIGKILL");
    return this.#child.exitCode === 0;
  }
}
