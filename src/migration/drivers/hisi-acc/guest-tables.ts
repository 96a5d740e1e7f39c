import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { Direction, pending, Transfer } from "../../../memory/transfer.ts";
import { contextBytes } from "../../../spec/hisi-qm.ts";
import type { Step } from "../../driver.ts";

const contextDwords = contextBytes / 4;

/** A table of queue contexts in the guest's memory, while nobody in the guest runs. */
export class GuestTable {
  readonly #memory: GuestMemory;
  readonly #address: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(memory: GuestMemory, address: number, queues: number) {
    this.#memory = memory;
    this.#address = address;
    this.#bytes = new Uint8Array(queues * contextBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Fetches all of it. */
  read(): Step {
    return this.#move(Direction.read, 0, this.#bytes.length);
  }

  /** Dwords of a context that was fetched. */
  context(queue: number): number[] {
    const at = queue * contextBytes;
    return Array.from({ length: contextDwords }, (_, i) => this.#view.getUint32(at + 4 * i, true));
  }

  /** Replaces one context. */
  write(queue: number, context: readonly number[]): Step {
    const at = queue * contextBytes;
    for (const [i, dword] of context.entries()) this.#view.setUint32(at + 4 * i, dword, true);
    return this.#move(Direction.write, at, contextBytes);
  }

  *#move(direction: Direction, at: number, length: number): Step {
    const transfer = new Transfer().set(direction, this.#address + at, this.#bytes, at, length);
    const started = this.#memory.start(transfer);
    if (started < 0) return started;
    while (transfer.status === pending) yield;
    return transfer.status;
  }
}
