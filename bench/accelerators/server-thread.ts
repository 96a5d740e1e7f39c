import { openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { OperatorError } from "../operator-error.ts";

/** Milliseconds of processor time of all of a server's threads. */
export const serverClock = (pid: number) => (): number => {
  const folder = `/proc/${pid}/task`;
  const used = readdirSync(folder).map((tid) => {
    const text = readFileSync(`${folder}/${tid}/schedstat`, "latin1");
    return Number.parseInt(text, 10) / 1e6;
  });
  return used.reduce((sum, ms) => sum + ms, 0);
};

/** A thread of a server, and how much processor time it has used. */
export class ServerThread {
  readonly #fd: number;
  readonly #text = Buffer.alloc(64);

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** The thread of the process that has most to do with an exercise. */
  static busiest(pid: number, exercise: () => void): ServerThread {
    const folder = `/proc/${pid}/task`;
    const threads = readdirSync(folder).map(
      (tid) => new ServerThread(openSync(`${folder}/${tid}/schedstat`, "r")),
    );
    const before = threads.map((thread) => thread.processorMs);
    exercise();
    const used = threads.map((thread, i) => thread.processorMs - (before[i] ?? 0));
    const found = threads[used.indexOf(Math.max(...used))];
    if (found === undefined) throw new OperatorError(`Process ${pid} has ended.`);
    return found;
  }

  /** Of its whole life; the first number in its `schedstat`, in nanoseconds. */
  get processorMs(): number {
    const length = readSync(this.#fd, this.#text, 0, this.#text.length, 0);
    return Number.parseInt(this.#text.toString("latin1", 0, length), 10) / 1e6;
  }
}
