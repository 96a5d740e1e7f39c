/** The computations of SEC2 that a compute worker can do, by the names that requests use. */
import { unshared } from "../compute-mail.ts";
import type { CipherResult, CipherWork } from "./cipher-work.ts";
import { KeyedCiphers } from "./keyed-ciphers.ts";
import { perform } from "./transforms.ts";

/** Name of the operation that does a `CipherWork` and answers a `CipherResult`. */
export const cipherOperation = "sec2-cipher";

/** A worker serves many devices, so it keeps no key of any of them set. */
export const sec2Operations = {
  [cipherOperation]: (work: CipherWork): CipherResult =>
    unshared(perform(new KeyedCiphers(), work)) as CipherResult,
} as const;
