import { Worker } from "node:worker_threads";

/** What a load has done, and what it has seen come back. */
export interface LoadCounts {
  readonly rounds: number;
  readonly doorbells: number;
  readonly interrupts: number;
  readonly echoes: number;
  readonly echoInterrupts: number;
}

/** A guest driver that works without a pause in its own thread and checks everything it sees. */
export class Load {
  readonly #worker: Worker;
  readonly #stop = new Int32Array(new SharedArrayBuffer(8));
  readonly #failed: Promise<never>;

  private constructor(path: string, twin: boolean) {
    const entry = new URL("./load-thread.mjs", import.meta.url);
    this.#worker = new Worker(entry, { workerData: { path, stop: this.#stop, twin } });
    this.#failed = new Promise((_, reject) => this.#worker.once("error", reject));
    this.#failed.catch(() => {});
  }

  static async start(path: string, { twin = false } = {}): Promise<Load> {
    const load = new Load(path, twin);
    await load.#message();
    return load;
  }

  #message(): Promise<unknown> {
    const message = new Promise((resolve) => this.#worker.once("message", resolve));
    return Promise.race([message, this.#failed]);
  }

  /** Rounds that were begun so far. */
  get rounds(): number {
    return Atomics.load(this.#stop, 1);
  }

  /** Waits until a few more rounds are done; fails when the load has found a fault. */
  async progress(rounds: number): Promise<void> {
    const wanted = this.rounds + rounds;
    while (this.rounds < wanted) {
      const pause = new Promise((resolve) => setTimeout(resolve, 1));
      await Promise.race([pause, this.#failed]);
    }
  }

  /** Ends the load and tells what it counted. */
  async stop(): Promise<LoadCounts> {
    const counts = this.#message();
    Atomics.store(this.#stop, 0, 1);
    return (await counts) as LoadCounts;
  }
}
