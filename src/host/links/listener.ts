import type { Address } from "./address.ts";

/** A place where links arrive. */
export interface Listener {
  /** Where it is, with the port that was chosen. */
  readonly address: Address;
  /** Takes no more links; those that are there stay. */
  close(): void;
}
