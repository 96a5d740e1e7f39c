import { createRequire } from "node:module";
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
} from "node:worker_threads";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../../sys/descriptors.ts";
import {
  type Answer,
  buffersOf,
  closing,
  type Job,
  type Spent,
  type SupervisorStart,
} from "./compute-mail.ts";

/** MiB, for a thread that only passes on what lies outside of the heap. */
const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32, stackSizeMb: 1 };

/**
 * A supervisor and its compute workers, as the device's thread sees them: jobs go in, an eventfd
 * says that answers are there. None of it needs the event loop of the thread that uses it.
 */
export class ComputeThreads {
  /** Readable when there may be answers. */
  readonly fd: number;
  readonly #port: MessagePort;

  private constructor(fd: number, port: MessagePort) {
    this.fd = fd;
    this.#port = port;
  }

  /** Null when the machine has no descriptor or no thread for us. */
  static start(options: Omit<SupervisorStart, "port" | "fd">): ComputeThreads | null {
    const fd = createEventfd();
    const theirs = fd < 0 ? fd : duplicate(fd);
    const { port1, port2 } = new MessageChannel();
    try {
      if (theirs >= 0) {
        const entry = createRequire(import.meta.url).resolve("vfio-ferry/compute-supervisor");
        const workerData: SupervisorStart = { ...options, port: port2, fd: theirs };
        new Worker(entry, { workerData, resourceLimits, transferList: [port2] }).unref();
        return new ComputeThreads(fd, port1);
      }
    } catch {
      // No thread, or no memory for one: the caller is told the same as without a descriptor.
    }
    port1.close();
    closeFd(theirs);
    closeFd(fd);
    return null;
  }

  /** Hands a job over, with the buffers of its input. */
  send(job: Job): void {
    this.#port.postMessage(job, buffersOf(job.input));
  }

  /** Gives bytes away that have their buffer for themselves, to be freed over there. */
  discard(spent: Uint8Array): void {
    this.#port.postMessage({ spent } satisfies Spent, buffersOf({ spent }));
  }

  /** Takes the eventfd's count, so that it is readable again only behind the next answer. */
  drain(): void {
    drainEventfd(this.fd);
  }

  /** The next answer that has come, or null. */
  take(): Answer | null {
    const received = receiveMessageOnPort(this.#port) as { message: Answer } | undefined;
    return received?.message ?? null;
  }

  /** Ends the threads. */
  close(): void {
    this.#port.postMessage(closing);
    this.#port.close();
    closeFd(this.fd);
  }
}
