import { FerryError, messageOf } from "../../base/errors.ts";
import type { Clock } from "../../migration/hosts/clock.ts";
import type { Link } from "../../migration/hosts/link.ts";
import type { TargetParts } from "../../migration/hosts/target.ts";
import { formatAddress } from "./address.ts";
import type { LinkFactory, Place } from "./link-factory.ts";
import type { Listener } from "./listener.ts";

/** Serves a link that has come in at a place. */
type Serve = (link: Link, at: TargetParts["at"]) => void;

/** The places where sources of one device call, each listened at once. */
export class Listeners {
  readonly #links: LinkFactory;
  readonly #serve: Serve;
  readonly #open = new Map<string, { readonly listener: Listener; readonly pki: string }>();

  readonly #over = new AbortController();

  constructor(links: LinkFactory, serve: Serve) {
    this.#links = links;
    this.#serve = serve;
  }

  /** Where they are. */
  get addresses(): readonly string[] {
    return [...this.#open.keys()];
  }

  /**
   * Listens at a place. One that is there already shows from here on the certificate that lies in
   * its folder now; the certificate of another folder is refused.
   */
  async at(place: Place): Promise<Listener> {
    const { address, pki = "" } = place;
    const there = this.#open.get(formatAddress(address));
    if (there === undefined) return await this.#add(place, pki);
    if (there.pki !== pki) {
      const why = `${formatAddress(address)} is in use with the certificates of ${there.pki}.`;
      throw new FerryError("usage", why);
    }
    there.listener.renew?.();
    return there.listener;
  }

  /**
   * Listens at a place, now or as soon as it can be: a port that is in use, or a folder that is not
   * there yet, is tried again every `againMs`. Done after one try; `late` hears why it failed.
   */
  async soon(
    place: Place,
    clock: Clock,
    againMs: number,
    late: (why: string) => void,
  ): Promise<void> {
    const why = await this.#fails(place);
    if (why === null) return;
    late(why);
    void this.#tryAgain(place, clock, againMs);
  }

  async #tryAgain(place: Place, clock: Clock, againMs: number): Promise<void> {
    const { signal } = this.#over;
    do await clock.sleep(againMs, signal);
    while (!signal.aborted && (await this.#fails(place)) !== null);
  }

  async #fails(place: Place): Promise<string | null> {
    return await this.at(place).then(() => null, messageOf);
  }

  async #add(place: Place, pki: string): Promise<Listener> {
    let at = { address: formatAddress(place.address), pki };
    const listener = await this.#links.listen(place, (link) => this.#serve(link, at));
    at = { ...at, address: formatAddress(listener.address) };
    this.#open.set(at.address, { listener, pki });
    return listener;
  }

  /** Nobody else comes in. */
  close(): void {
    this.#over.abort();
    for (const { listener } of this.#open.values()) listener.close();
  }
}
