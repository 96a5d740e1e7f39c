/** Time as it is given to those who migrate: a simulation gives another one than a host. */
import { FerryError } from "../../base/errors.ts";

/** A clock and its timers. */
export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Milliseconds since 1970, for people only. */
  wall(): number;
  /** Does something after `ms`; gives back how to leave it out. */
  after(ms: number, act: () => void): () => void;
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

/** `Clock.sleep`, made of `Clock.after`. */
export function sleepBy(clock: Pick<Clock, "after">, ms: number, signal?: AbortSignal) {
  return new Promise<void>((resolve) => {
    if (signal?.aborted === true) return resolve();
    const wake = (): void => {
      signal?.removeEventListener("abort", wake);
      leave();
      resolve();
    };
    const leave = clock.after(ms, wake);
    signal?.addEventListener("abort", wake);
  });
}

/** The outcome of `work`, unless the wait ends before: then it goes on, and nobody looks at it. */
export function within<T>(clock: Clock, wait: Wait, work: Promise<T>): Promise<T> {
  const { what, budgetMs, cancel } = wait;
  return new Promise((resolve, reject) => {
    const end = (): void => {
      leave?.();
      cancel?.removeEventListener("abort", cancelled);
    };
    const fail = (thrown: unknown): void => {
      end();
      reject(thrown);
    };
    const cancelled = (): void => fail(cancel?.reason);
    const late = (): void =>
      fail(new FerryError("too-late", `${what} took longer than ${budgetMs} ms.`));
    // A wait without an end needs no timer.
    const leave = budgetMs === Number.POSITIVE_INFINITY ? null : clock.after(budgetMs, late);
    work.then((value) => {
      end();
      resolve(value);
    }, fail);
    if (cancel?.aborted === true) return cancelled();
    cancel?.addEventListener("abort", cancelled);
  });
}
