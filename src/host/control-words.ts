import { Seal } from "../migration/seal.ts";

/**
 * Words that the main thread shares with a device's worker. Requests travel as messages; the words
 * say that there are some, because a worker that is blocked in a system call looks at nothing else.
 */
export const ControlWord = {
  /** Requests posted, counted by the main thread. */
  posted: 0,
  /** Requests taken, counted by the worker. */
  taken: 1,
  /** The worker's thread id, to be woken by. */
  thread: 2,
  /** 1 from the worker's last look at `posted` on: it may be blocked, or is about to be. */
  blocks: 3,
  /** The seal of the device's migration: `Seal`. */
  seal: 4,
} as const;

/** The seal among control words. */
export const sealOf = (words: Int32Array<SharedArrayBuffer>): Seal =>
  new Seal(words.subarray(ControlWord.seal, ControlWord.seal + 1));

/** Fresh control words, all 0. */
export function controlWords(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(Object.keys(ControlWord).length * 4));
}
