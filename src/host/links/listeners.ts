import { FerryError, messageOf } from "../../base/errors.ts";
import type { Clock } from "../../migration/hosts/clock.ts";
import type { Link } from "../../migration/hosts/link.ts";
import type { TargetParts } from "../../migration/hosts/target.ts";
import { formatAddress } from "./address.ts";
import type { LinkFactory, Place } from "./link-factory.ts";
import type { Listener } from "./listener.ts";

/** What listeners work with. */
export interface ListenersParts {
  readonly links: LinkFactory;
  readonly clock: Clock;
  /** How often is tried again what cannot be done yet, in milliseconds. */
  readonly againMs: number;
  /** Serves a link that has come in at a place. */
  serve(link: Link, at: TargetParts["at"]): void;
  /** May somebody still call at an address for whom nothing is on offer? */
  isAwaited(address: string): boolean;
}

interface Open {
  readonly listener: Listener;
  readonly pki: string;
  /** How long something is on offer there, on the listeners' clock. */
  untilMs: number;
}

/** The places where sources of one device call, each listened at once and while it is needed. */
export class Listeners {
  readonly #parts: ListenersParts;
  readonly #open = new Map<string, Open>();
  readonly #over = new AbortController();

  constructor(parts: ListenersParts) {
    this.#parts = parts;
  }

  /** Where they are. */
  get addresses(): readonly string[] {
    return [...this.#open.keys()];
  }

  /**
   * Listens at a place for so long, and afterwards while somebody is awaited. One that is there
   * already shows from here on the certificate that lies in its folder now; the certificate of
   * another folder is refused.
   */
  async at(place: Place, lastsMs: number): Promise<Listener> {
    const { address, pki = "" } = place;
    const untilMs = this.#parts.clock.now() + lastsMs;
    const there = this.#open.get(formatAddress(address));
    if (there === undefined) return await this.#add(place, pki, untilMs);
    if (there.pki !== pki) {
      const why = `${formatAddress(address)} is in use with the certificates of ${there.pki}.`;
      throw new FerryError("usage", why);
    }
    there.listener.renew?.();
    there.untilMs = Math.max(there.untilMs, untilMs);
    return there.listener;
  }

  /**
   * Listens at a place while somebody is awaited there, now or as soon as it can be: a port that is
   * in use, or a folder that is not there yet, is tried again. Done after one try; `late` hears why
   * it failed.
   */
  async soon(place: Place, late: (why: string) => void): Promise<void> {
    const why = await this.#fails(place);
    if (why === null) return;
    late(why);
    void this.#tryAgain(place);
  }

  async #tryAgain(place: Place): Promise<void> {
    const { clock, againMs } = this.#parts;
    const { signal } = this.#over;
    do await clock.sleep(againMs, signal);
    while (!signal.aborted && (await this.#fails(place)) !== null);
  }

  async #fails(place: Place): Promise<string | null> {
    return await this.at(place, 0).then(() => null, messageOf);
  }

  async #add(place: Place, pki: string, untilMs: number): Promise<Listener> {
    const { links, serve } = this.#parts;
    let at = { address: formatAddress(place.address), pki };
    const listener = await links.listen(place, (link) => serve(link, at));
    at = { ...at, address: formatAddress(listener.address) };
    const open = { listener, pki, untilMs };
    this.#open.set(at.address, open);
    void this.#closeInTime(at.address, open);
    return listener;
  }

  async #closeInTime(address: string, open: Open): Promise<void> {
    const { clock, againMs, isAwaited } = this.#parts;
    const { signal } = this.#over;
    do await clock.sleep(Math.max(againMs, open.untilMs - clock.now()), signal);
    while (!signal.aborted && (clock.now() < open.untilMs || isAwaited(address)));
    if (signal.aborted) return;
    this.#open.delete(address);
    open.listener.close();
  }

  /** Nobody else comes in. */
  close(): void {
    this.#over.abort();
    for (const { listener } of this.#open.values()) listener.close();
  }
}
