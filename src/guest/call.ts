import { FerryError } from "../base/errors.ts";

/** Makes a value of a finished submission queue entry; a FerryError when it tells of an error. */
export type Decode<T> = (sqe: DataView, at: number) => T;

/** A request that the device was given; its value is there when it has ended. */
export class Call<T> {
  readonly startedAtMs = performance.now();
  /** How long it took; negative while it is under way. */
  elapsedMs = -1;
  /** Why it ended without a value. */
  failure: Error | null = null;
  #value: T | null = null;

  get done(): boolean {
    return this.elapsedMs >= 0;
  }

  /** Ends it with what `decode` makes of the device's answer, the entry at `at` of `sqe`. */
  finish(decode: Decode<T>, sqe: DataView, at: number): void {
    this.elapsedMs = performance.now() - this.startedAtMs;
    try {
      this.#value = decode(sqe, at);
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
      this.failure = thrown;
    }
  }

  /** Ends it without an answer. */
  abandon(why: string): void {
    this.elapsedMs = performance.now() - this.startedAtMs;
    this.failure = new FerryError("request-lost", why);
  }

  /** What the device answered, of a call that is done; throws its failure. */
  get value(): T {
    if (this.failure !== null) throw this.failure;
    if (!this.done) throw new FerryError("request-lost", "the request is still under way.");
    return this.#value as T;
  }
}
