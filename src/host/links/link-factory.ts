import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { FerryError } from "../../base/errors.ts";
import type { Link } from "../../migration/hosts/link.ts";
import { type Address, formatAddress } from "./address.ts";
import { FileTarget, filePeer } from "./file-target.ts";
import type { Listener } from "./listener.ts";
import { dialTls, listenTls, readIdentity } from "./tls.ts";
import { dialUnix, listenUnixLink, localPeer } from "./unix.ts";

/** A place, with what proves who is there. */
export interface Place {
  readonly address: Address;
  /** The folder with this host's certificate; only TLS needs it. */
  readonly pki?: string | undefined;
  /** The name that the other side must prove; without it, the host's in the address. */
  readonly peer?: string | undefined;
}

/** How links are made. */
export interface LinkFactory {
  dial(place: Place): Promise<Link>;
  listen(place: Place, greet: (link: Link) => void): Promise<Listener>;
}

/** What the other side of a place is called. */
export function peerOf({ address, peer }: Place): string {
  if (address.kind === "tls") return peer ?? address.host;
  return address.kind === "unix" ? localPeer : filePeer;
}

function pkiOf({ address, pki }: Place): string {
  if (pki !== undefined) return pki;
  throw new FerryError(
    "usage",
    `${formatAddress(address)} needs this host's certificate: --pki FOLDER, which ferry pki makes.`,
  );
}

/** Links as this host makes them. */
export const hostLinks: LinkFactory = {
  async dial(place) {
    const { address } = place;
    switch (address.kind) {
      case "tls":
        return await dialTls(address, peerOf(place), readIdentity(pkiOf(place)));
      case "unix":
        return await dialUnix(address.path);
      case "file":
        if (existsSync(dirname(address.path))) return new FileTarget(address.path);
        throw new FerryError("no-folder", `the folder of ${address.path} is not there: make it.`);
    }
  },

  async listen(place, greet) {
    const { address } = place;
    if (address.kind === "tls") {
      const identity = () => readIdentity(pkiOf(place));
      const listener = await listenTls(address, identity(), greet);
      return { ...listener, renew: () => listener.become(identity()) };
    }
    if (address.kind === "unix") return await listenUnixLink(address.path, greet);
    throw new FerryError("usage", "nobody calls at a file: load it with ferry migrate load.");
  },
};
