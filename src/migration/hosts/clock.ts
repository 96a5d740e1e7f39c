/** Time as it is given to those who migrate: a simulation gives another one than a host. */
import { FerryError } from "../../base/errors.ts";

export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Milliseconds since 1970, for people only. */
  wall(): number;
  /** Done after `ms`, or as soon as the signal is given; it never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** A wait with an end: what for, how long at most, and who may end it. */
export interface Wait {
  /** Completes "... took longer than 500 ms": `the offer's answer`. */
  readonly what: string;
  readonly budgetMs: number;
  /** Its reason is what the wait rejects with. */
  readonly cancel?: AbortSignal | undefined;
}

/** Why nobody waits any more. A signal without a reason makes an error with a stack trace. */
const ended = "the wait has ended";

/** The outcome of `work`, unless the wait ends before: then it goes on, and nobody looks at it. */
export function within<T>(clock: Clock, wait: Wait, work: Promise<T>): Promise<T> {
  const { what, budgetMs, cancel } = wait;
  return new Promise((resolve, reject) => {
    // Giving a signal is slow, and a wait without an end, for DATA, has no use for one.
    const timer = budgetMs === Number.POSITIVE_INFINITY ? null : new AbortController();
    const end = (): void => {
      timer?.abort(ended);
      cancel?.removeEventListener("abort", cancelled);
    };
    const fail = (thrown: unknown): void => {
      end();
      reject(thrown);
    };
    const cancelled = (): void => fail(cancel?.reason);
    work.then((value) => {
      end();
      resolve(value);
    }, fail);
    if (cancel?.aborted === true) return cancelled();
    cancel?.addEventListener("abort", cancelled);
    if (timer === null) return;
    const late = (): FerryError =>
      new FerryError("too-late", `${what} took longer than ${budgetMs} ms.`);
    void clock.sleep(budgetMs, timer.signal).then(() => {
      if (!timer.signal.aborted) fail(late());
    });
  });
}
