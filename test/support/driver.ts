import { Worker } from "node:worker_threads";

/** A client that runs in its own thread; every call is a promise of what it answered. */
export class Driver {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (answer: number) => void>();
  #nextId = 1;

  private constructor(path: string) {
    const entry = new URL("./driver-thread.mjs", import.meta.url);
    this.#worker = new Worker(entry, { workerData: { path } });
    this.#worker.on("message", ({ id, answer }: { id: number; answer: number }) => {
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  static async connect(path: string): Promise<Driver> {
    const driver = new Driver(path);
    await new Promise<number>((resolve, reject) => {
      driver.#waiting.set(0, resolve);
      driver.#worker.once("error", reject);
    });
    return driver;
  }

  #ask(order: string, ...args: number[]): Promise<number> {
    const id = this.#nextId++;
    const answer = new Promise<number>((resolve) => this.#waiting.set(id, resolve));
    this.#worker.postMessage({ id, order, args });
    return answer;
  }

  read = (region: number, offset: number) => this.#ask("read", region, offset);
  write = (region: number, offset: number, value: number) =>
    this.#ask("write", region, offset, value);
  posts = (region: number, offset: number, count: number) =>
    this.#ask("posts", region, offset, count);
  reset = () => this.#ask("reset");

  async close(): Promise<void> {
    await this.#ask("close");
    await this.#worker.terminate();
  }
}
