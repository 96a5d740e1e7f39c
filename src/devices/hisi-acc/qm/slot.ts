import type { GuestMemory } from "../../../memory/guest-memory.ts";
import type { Outcome } from "../engine.ts";
import { Fiber } from "./fiber.ts";

/** A request under way. */
export class Slot {
  readonly fiber: Fiber;
  readonly sqe: DataView;
  readonly bytes: Uint8Array;
  queue = -1;
  /** Its queue has another context now: it is only waited for. */
  abandoned = false;
  /** What is being written in several steps. */
  outcome: Outcome | null = null;

  constructor(memory: GuestMemory, sqeBytes: number) {
    this.fiber = new Fiber(memory);
    this.bytes = new Uint8Array(sqeBytes);
    this.sqe = new DataView(this.bytes.buffer);
  }
}
