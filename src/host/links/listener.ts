import type { Address } from "./address.ts";

/** A place where links arrive. */
export interface Listener {
  /** Where it is, with the port that was chosen. */
  readonly address: Address;
  /** Reads anew who this host is, for those that call from here on; nothing where it is nobody. */
  renew?(): void;
  /** Takes no more links; those that are there stay. */
  close(): void;
}
