/** The thread of one compute worker: takes a job, carries it out, answers, takes the next. */
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../base/assert.ts";
import { type Answer, buffersOf, type Job, unshared } from "./compute-mail.ts";
import { type Operations, operations, perform } from "./compute-operations.ts";

/**
 * Niceness of a compute worker's thread: on a busy machine registers are answered before long
 * computations go on. Linux keeps it for each thread, and 0 means the calling one.
 */
const niceness = 10;

assert(parentPort !== null, "compute-worker.ts runs as a worker");
const port = parentPort;
const module = workerData as string | null;
const all: Operations = module === null ? operations : (await import(module)).operations;

setPriority(0, niceness);
port.on("message", (job: Job) => {
  const answer: Answer = { id: job.id, result: unshared(perform(all, job)) };
  port.postMessage(answer, buffersOf(answer.result));
});
