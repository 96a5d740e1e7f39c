import { appendFileSync } from "node:fs";
import { FerryError, messageOf } from "../../base/errors.ts";
import type { ComputeService, Engine, EngineDescription, GuestReader, Outcome } from "./engine.ts";

/** The bytes of a tag in a submission queue entry, and in the file. */
export const tagBytes = 8;

/**
 * An engine that keeps account: a file gets the tag of each request that is completed, as the guest
 * wrote it. Several devices' files, and what their guest has submitted, tell whether a request was
 * run twice or never; counts would not tell when there is one of each. A line a request costs a
 * call of the kernel, so it is for who asks.
 */
export class Ledger implements Engine {
  readonly description: EngineDescription;
  readonly #engine: Engine;
  readonly #path: string;
  /** A request may be served again: it is done when its outcome is written. */
  readonly #tags = new WeakMap<Outcome, Uint8Array>();

  constructor(engine: Engine, path: string) {
    this.#engine = engine;
    this.#path = path;
    this.description = engine.description;
    try {
      appendFileSync(path, "");
    } catch (thrown) {
      throw new FerryError("bad-option", `ledger=${path} cannot be written: ${messageOf(thrown)}.`);
    }
  }

  *serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const at = sqe.byteOffset + this.description.tagAt;
    const tag = new Uint8Array(sqe.buffer.slice(at, at + tagBytes));
    const outcome = yield* this.#engine.serve(sqe, algType, memory, compute);
    if (typeof outcome !== "number") this.#tags.set(outcome, tag);
    return outcome;
  }

  completed(outcome: Outcome): void {
    appendFileSync(this.#path, this.#tags.get(outcome) as Uint8Array);
  }
}
