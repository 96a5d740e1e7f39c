/**
 * The thread between a device and its compute workers. The device's own thread never enters its
 * event loop and so would never hear that a worker has died; this one does nothing but listen.
 */
import { Worker, workerData } from "node:worker_threads";
import { errno } from "../../base/errno.ts";
import { closeFd, signalEventfd } from "../../sys/descriptors.ts";
import {
  type Answer,
  buffersOf,
  closing,
  type Job,
  type Spent,
  type SupervisorStart,
} from "./compute-mail.ts";

const { port, fd, workers, jobTimeoutMs, module } = workerData as SupervisorStart;
const entry = new URL("./compute-worker.js", import.meta.url);

/** MiB. Big inputs and outputs lie outside of the heap. */
const resourceLimits = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 64, stackSizeMb: 1 };

const queue: Job[] = [];
const crew = new Set<CrewMember>();

function tell(answer: Answer): void {
  port.postMessage(answer, buffersOf(answer.result));
  signalEventfd(fd);
}

/** A compute worker and the job that it has. */
class CrewMember {
  readonly #worker = new Worker(entry, { workerData: module, resourceLimits });
  #job: Job | null = null;
  #deadline: NodeJS.Timeout | undefined;

  constructor() {
    // A worker that was given up may have answered just before.
    this.#worker.on("message", (answer: Answer) => {
      if (this.#job !== null) this.#done(answer);
    });
    // A worker that throws ends; what it threw is a mistake of ours and costs one request.
    this.#worker.on("error", () => {});
    this.#worker.on("exit", () => this.#gone());
  }

  get idle(): boolean {
    return this.#job === null;
  }

  take(job: Job): void {
    this.#worker.postMessage(job, buffersOf(job.input));
    this.#job = job;
    this.#deadline = setTimeout(() => this.#giveUp(), jobTimeoutMs);
  }

  /** Does not wait for the thread to end: it may be deep in native code. */
  #giveUp(): void {
    this.#worker.terminate();
    this.#gone();
  }

  #done(answer: Answer): void {
    clearTimeout(this.#deadline);
    this.#job = null;
    tell(answer);
    dispatch();
  }

  #gone(): void {
    crew.delete(this);
    if (this.#job !== null) this.#done({ id: this.#job.id, result: -errno.EIO });
  }
}

/** Somebody for the next job, or null when all are at work. */
function idleMember(): CrewMember | null {
  for (const member of crew) if (member.idle) return member;
  if (crew.size >= workers) return null;
  const member = new CrewMember();
  crew.add(member);
  return member;
}

function dispatch(): void {
  for (let job = queue[0]; job !== undefined; job = queue[0]) {
    try {
      const member = idleMember();
      if (member === null) return;
      member.take(job);
    } catch {
      tell({ id: job.id, result: -errno.EAGAIN });
    }
    queue.shift();
  }
}

port.on("message", (message: Job | Spent | typeof closing) => {
  if (message !== closing) {
    if ("spent" in message) return;
    queue.push(message);
    dispatch();
    return;
  }
  closeFd(fd);
  process.exit();
});
