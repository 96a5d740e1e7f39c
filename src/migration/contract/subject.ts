import type { DriverKind } from "../driver.ts";
import type { Planes } from "../planes.ts";

/**
 * A device fresh from power-on, the driver that is to be proved, and somebody who plays the guest.
 * The hooks throw what is wrong; they reach the device by `planes.guest` alone and are called only
 * while it runs. Between them, and inside of them, nobody else gives the device its turns.
 */
export interface ContractSubject {
  readonly kind: DriverKind;
  readonly planes: Planes;
  /** Gives the device a state that a fresh one does not have, and best of all work under way. */
  exercise(): void;
  /** Has the work finish; throws unless the device is one that was exercised, whichever it is. */
  verify(): void;
  /** Throws unless the device is as good as fresh: nothing of any exercise is seen. */
  clean(): void;
  /** The guest's own memory comes from there, as the VMM moves it; before the device runs here. */
  adopt?(source: ContractSubject): void;
  /** Whatever else needs a turn with the device, such as threads that it waits for. */
  turn?(): void;
  /** The subject is not needed any more. */
  close?(): void;
}

/** How much of it; what is left out is for small and quick devices. */
export interface ContractOptions {
  /** Turns of work that one phase may take. */
  readonly turnsMax?: number;
  /** Sections that the state of an exercised device may have. */
  readonly sectionsMax?: number;
  /** Streams that are spoilt in each of several ways. */
  readonly spoiltMax?: number;
}

/** One thing that a driver has to be able to do. */
export interface ContractCase {
  /** Stable: what it is about, and what is promised. */
  readonly name: string;
  /** Throws a `ContractBreach` that says what was promised and not kept. */
  run(): void;
}

/** What a driver was caught at, as a sentence. */
export class ContractBreach extends Error {
  override readonly name = "ContractBreach";
}

/** Stops a case unless `kept`. */
export function promise(kept: boolean, otherwise: string): asserts kept {
  if (!kept) throw new ContractBreach(otherwise);
}
