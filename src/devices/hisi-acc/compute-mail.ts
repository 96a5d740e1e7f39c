/** What is said between a device's thread, its compute supervisor and the compute workers. */
import type { MessagePort } from "node:worker_threads";

/** What a supervisor is started with. */
export interface SupervisorStart {
  /** Jobs come in here, answers go out. */
  readonly port: MessagePort;
  /** An eventfd that is signalled behind every answer; the supervisor owns and closes it. */
  readonly fd: number;
  /** Compute workers at most; each is started when it is needed. */
  readonly workers: number;
  /** A job that takes longer is given up with its worker. */
  readonly jobTimeoutMs: number;
  /** URL of a module that exports `operations`; null for the devices' own. */
  readonly module: string | null;
}

/** One computation. */
export interface Job {
  readonly id: number;
  readonly operation: string;
  readonly input: unknown;
}

/** What became of a job. */
export interface Answer {
  readonly id: number;
  /** What the operation gave, or a negated errno when it could not be carried out. */
  readonly result: unknown;
}

/** Ends a supervisor and its workers. */
export const closing = "closing";

/** Bytes that nobody needs any more. They are freed where it may take a while. */
export interface Spent {
  readonly spent: Uint8Array;
}

/**
 * A plain object whose byte arrays have their buffers for themselves, so that these can be handed
 * over instead of copied: what shares a buffer, with Node's pool for example, is copied once here.
 */
export function unshared(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const own = (each: unknown): unknown =>
    each instanceof Uint8Array && each.byteLength !== each.buffer.byteLength
      ? Uint8Array.from(each)
      : each;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, own(each)]));
}

/** The buffers of an unshared object's byte arrays; an empty array may be a constant and stays. */
export function buffersOf(value: unknown): ArrayBuffer[] {
  if (typeof value !== "object" || value === null) return [];
  const arrays = Object.values(value).filter(
    (each) => each instanceof Uint8Array && each.length > 0,
  );
  return [...new Set(arrays.map(({ buffer }) => buffer as ArrayBuffer))];
}
