import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import { FerryError } from "../base/errors.ts";
import { wake } from "../sys/signal.ts";
import { ControlWord, controlWords, sealOf } from "./control-words.ts";
import type { DeviceSpec, Notice, Requests, WorkerStart } from "./mail.ts";

/** The compiled entry, found by name so that it is the same one whoever imports this file. */
const entry = createRequire(import.meta.url).resolve("vfio-ferry/worker");

/** A worker needs little: its data lies outside the heap. MiB. */
const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 128, stackSizeMb: 1 };

/** How long a worker that was woken has before it is woken again. */
const wakeIntervalMs = 1;

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/**
 * The main thread's handle of a device's worker. A request is posted as a message and counted in a
 * shared word; then the worker is woken until it has taken it, because a signal that comes between
 * its last look at the word and its next system call is lost.
 */
export class DeviceWorker {
  readonly spec: DeviceSpec;
  readonly #worker: Worker;
  readonly #words = controlWords();
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #looking: NodeJS.Timeout | null = null;
  #onEnded: () => void = () => {};

  private constructor(spec: DeviceSpec, onFatal: (error: unknown) => void) {
    this.spec = spec;
    const workerData: WorkerStart = { spec, words: this.#words };
    this.#worker = new Worker(entry, { workerData, resourceLimits });
    this.#worker.on("message", (notice: Notice) => this.#hear(notice));
    this.#worker.on("error", onFatal);
    this.#exited = new Promise((resolve) => this.#worker.on("exit", () => resolve()));
  }

  /**
   * Makes the device in its own thread; `onFatal` hears of whatever is thrown there, then or later.
   */
  static async start(spec: DeviceSpec, onFatal: (error: unknown) => void): Promise<DeviceWorker> {
    const worker = new DeviceWorker(spec, onFatal);
    await new Promise<unknown>((resolve, reject) => {
      worker.#waiting.set(0, { resolve, reject });
      worker.#worker.once("error", reject);
    });
    return worker;
  }

  /** Called when the device's client has gone. */
  onEnded(callback: () => void): void {
    this.#onEnded = callback;
  }

  /** Asks the worker for something, wherever it is blocked. `handed` buffers are its own then. */
  ask<K extends keyof Requests>(
    op: K,
    ask: Requests[K]["ask"],
    handed: readonly ArrayBuffer[] = [],
  ): Promise<Requests[K]["answer"]> {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#worker.postMessage({ id, op, ask }, handed);
    const posted = Atomics.add(this.#words, ControlWord.posted, 1) + 1;
    Atomics.notify(this.#words, ControlWord.posted);
    this.#insist(posted);
    return answer as Promise<Requests[K]["answer"]>;
  }

  /**
   * Wakes the worker if it may be blocked, and again until it has taken the letter; one that reads
   * its mail finds the letter by itself. This thread does not wait for it: it has others to serve,
   * and may be in the worker's way on the processor that both share.
   */
  #insist(posted: number): void {
    if (Atomics.load(this.#words, ControlWord.taken) - posted >= 0) return;
    if (Atomics.load(this.#words, ControlWord.blocks) !== 0) this.nudge();
    this.#lookAgain();
  }

  /** However many letters wait, one timer looks after them. */
  #lookAgain(): void {
    this.#looking ??= setTimeout(() => {
      this.#looking = null;
      this.#insist(Atomics.load(this.#words, ControlWord.posted));
    }, wakeIntervalMs);
  }

  /** As `MigrationPort.seal`, at once, whatever the worker does. */
  seal(resets: number): boolean {
    return sealOf(this.#words).close(resets);
  }

  /** Ends the system call that the worker is blocked in, if it is in one. */
  nudge(): void {
    wake(Atomics.load(this.#words, ControlWord.thread));
  }

  #hear(notice: Notice): void {
    switch (notice.kind) {
      case "ready":
        this.#settle(0)?.resolve(null);
        break;
      case "failed":
        this.#settle(0)?.reject(new FerryError(notice.code, notice.reason));
        break;
      case "ended":
        this.#onEnded();
        break;
      case "answer":
        this.#settle(notice.id)?.resolve(notice.answer);
        break;
      case "refusal":
        this.#settle(notice.id)?.reject(new FerryError(notice.code, notice.reason));
        break;
    }
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  /** Sends the client away and ends the thread. */
  async stop(): Promise<void> {
    await this.ask("stop", null);
    await this.#exited;
  }
}
