/** HMAC (RFC 2104) over associated data and ciphertext of CBC. */
import { createHmac } from "node:crypto";
import { cbcBytes } from "./blocks.ts";
import {
  authPart,
  type CipherResult,
  type CipherWork,
  cipherPart,
  sameBytes,
} from "./cipher-work.ts";
import type { KeyedCiphers } from "./keyed-ciphers.ts";
import type { BlockCipher } from "./primitives.ts";

/** `hash` is the name of node:crypto. Encrypt, then authenticate; authenticate, then decrypt. */
export const authenc =
  (hash: string) =>
  (ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult => {
    const authKey = work.authKey.subarray(0, work.authKeyBytes);
    const source = cipherPart(work);
    if (work.encrypt) {
      const data = cbcBytes(ciphers, cipher, work, source);
      source.set(data);
      const mac = createHmac(hash, authKey).update(authPart(work)).digest();
      return { data, mac, matches: true };
    }
    const mac = createHmac(hash, authKey).update(authPart(work)).digest();
    const matches = sameBytes(mac, work.mac, work.macBytes);
    const data = matches ? cbcBytes(ciphers, cipher, work, source) : new Uint8Array(0);
    return { data, mac: null, matches };
  };
