import { FerryError } from "../../base/errors.ts";
import type { TargetParts } from "./target.ts";

/** Devices that wait for a source at once. */
export const offersMax = 64;
/** How long an offer stands unless it says otherwise, in milliseconds. */
export const offerMs = 10 * 60_000;
const tokenBytes = 16;

/** A place for one device from one host. */
export interface Offer {
  readonly token: string;
  /** The host that may send it, by the name that its link proves. */
  readonly from: string;
  readonly thaw: TargetParts["thaw"];
  readonly asks: TargetParts["asks"];
  /** On the offers' clock. */
  readonly endsMs: number;
}

/** How an offer differs from the usual. */
export interface OfferOptions extends Partial<Pick<Offer, "token" | "thaw" | "asks">> {
  readonly lastsMs?: number;
}

/** Where the randomness comes from; it must be fit for secrets. */
export type Random = (bytes: number) => Uint8Array;

/** What nobody guesses, in hexadecimal. */
export const newToken = (random: Random): string =>
  [...random(tokenBytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The same for every refusal: who guesses learns nothing. */
const refusal = "no device is on offer here for this host and token.";

/**
 * What a target has on offer. A token lets one host in, once; it is gone with the first HELLO that
 * fits, and after its time.
 */
export class Offers {
  readonly #random: Random;
  readonly #now: () => number;
  #offers: Offer[] = [];

  constructor(random: Random, now: () => number) {
    this.#random = random;
    this.#now = now;
  }

  /** How many stand. */
  get size(): number {
    this.#expire();
    return this.#offers.length;
  }

  /** Makes a place for a device from the host `from`. */
  put(from: string, options: OfferOptions = {}): Offer {
    const { lastsMs = offerMs, token = newToken(this.#random) } = options;
    const { thaw = "at once", asks = true } = options;
    this.#expire();
    if (this.#offers.length >= offersMax) {
      throw new FerryError(
        "too-many-offers",
        `${offersMax} offers wait already. Let them be used or end before you make another.`,
      );
    }
    const offer = { token, from, thaw, asks, endsMs: this.#now() + lastsMs };
    this.#offers.push(offer);
    return offer;
  }

  /** The offer that fits a host with these names, or why there is none. */
  find(token: string, names: readonly string[]): Offer | string {
    this.#expire();
    let found: Offer | null = null;
    for (const offer of this.#offers) {
      const fits = sameText(offer.token, token);
      if (fits && names.includes(offer.from)) found = offer;
    }
    return found ?? refusal;
  }

  /** Uses up the offer that fits, or says why there is none. */
  take(token: string, names: readonly string[]): Offer | string {
    const found = this.find(token, names);
    if (typeof found !== "string") this.withdraw(found);
    return found;
  }

  /** Ends an offer before its time. */
  withdraw(offer: Offer): void {
    this.#offers = this.#offers.filter((each) => each !== offer);
  }

  #expire(): void {
    const now = this.#now();
    this.#offers = this.#offers.filter(({ endsMs }) => endsMs > now);
  }
}

/** Compares in a time that does not depend on where the texts differ. */
export function sameText(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i % b.length);
  return difference === 0;
}
