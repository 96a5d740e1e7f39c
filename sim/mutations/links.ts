import type { ControlParts } from "../../src/host/migration-control.ts";
import type { Link } from "../../src/migration/hosts/link.ts";

type Change = (link: Link) => Link;

/** Changes the links that a source makes. */
export function dials(parts: ControlParts, change: Change): ControlParts {
  const { links } = parts;
  const dial: typeof links.dial = async (place) => change(await links.dial(place));
  return { ...parts, links: { ...links, dial } };
}

/** Changes the links that come to a target. */
export function listens(parts: ControlParts, change: Change): ControlParts {
  const { links } = parts;
  const listen: typeof links.listen = (place, greet) =>
    links.listen(place, (link) => greet(change(link)));
  return { ...parts, links: { ...links, listen } };
}
