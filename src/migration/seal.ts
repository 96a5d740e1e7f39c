/** The bit that says that no reset may be made; the resets are counted above it. */
const sealed = 1;
const oneReset = 2;

/**
 * A device's resets, counted, and whether one more may be made, in one word. Two threads may share
 * it: the device's makes resets, the other one decides that the device may be another host's. Which
 * of both comes first is then decided without waiting for either.
 */
export class Seal {
  readonly #word: Int32Array;

  /** `word` is one word, shared or not. */
  constructor(word: Int32Array = new Int32Array(1)) {
    this.#word = word;
  }

  /** Resets until now. */
  get resets(): number {
    return Atomics.load(this.#word, 0) >>> 1;
  }

  /** Counts a reset that is about to be made; false when none may be. For one thread only. */
  count(): boolean {
    const word = Atomics.load(this.#word, 0) & ~sealed;
    return Atomics.compareExchange(this.#word, 0, word, word + oneReset) === word;
  }

  /** No reset is made from here on. False when there was one since `resets` was `known`. */
  close(known: number): boolean {
    const word = (known * oneReset) | 0;
    const found = Atomics.compareExchange(this.#word, 0, word, word | sealed);
    return (found & ~sealed) === word;
  }

  /** Resets are made again. */
  open(): void {
    Atomics.and(this.#word, 0, ~sealed);
  }
}
