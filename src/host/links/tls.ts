import { readFileSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { connect, createServer, type PeerCertificate, type TLSSocket } from "node:tls";
import { FerryError, messageOf } from "../../base/errors.ts";
import type { Link } from "../../migration/hosts/link.ts";
import { filePeer } from "./file-target.ts";
import type { Listener } from "./listener.ts";
import { type Names, StreamLink } from "./stream-link.ts";
import { localPeer } from "./unix.ts";

/** The files of a folder that `ferry pki` makes for a host. */
export const pkiFiles = { ca: "ca.pem", cert: "host.pem", key: "host.key" } as const;

/** Who this host is, and whose word on others it takes. */
export type Identity = { readonly [K in keyof typeof pkiFiles]: string };

/** Where a host listens. */
export interface TlsPlace {
  readonly host: string;
  readonly port: number;
}

/** How long a caller may take to show who it is. */
const handshakeTimeout = 10_000;
/** Callers at once that have not shown yet who they are; the oldest makes place for the next. */
export const unnamedMax = 64;
/** Names that no certificate gives: who calls by them is on this host. */
const ownNames: readonly string[] = [localPeer, filePeer];
const minVersion = "TLSv1.3";

/** Reads a host's folder. */
export function readIdentity(folder: string): Identity {
  const read = (file: string): string => {
    try {
      return readFileSync(join(folder, file), "utf8");
    } catch (thrown) {
      throw new FerryError(
        "no-pki",
        `${folder} has no ${file} (${messageOf(thrown)}). Name a folder that ferry pki has made.`,
      );
    }
  };
  return { ca: read(pkiFiles.ca), cert: read(pkiFiles.cert), key: read(pkiFiles.key) };
}

/** The names of a certificate: its DNS names, as plain words. */
export function namesOf({
  subjectaltname = "",
}: Pick<PeerCertificate, "subjectaltname">): string[] {
  return subjectaltname
    .split(", ")
    .flatMap((each) => /^DNS:([A-Za-z0-9._-]+)$/.exec(each)?.[1] ?? []);
}

/** Connects to a host that must prove to be `peer`; `take` has the socket at once. */
export async function connectTls<T>(
  place: TlsPlace,
  peer: string,
  identity: Identity,
  take: (socket: TLSSocket) => T,
): Promise<T> {
  const where = `${place.host}:${place.port}`;
  const checkServerIdentity = (_: string, certificate: PeerCertificate): Error | undefined => {
    const names = namesOf(certificate);
    if (names.includes(peer)) return undefined;
    return new Error(`it is ${names.join(", ") || "nobody"}, and ${peer} was asked for`);
  };
  return await new Promise((resolve, reject) => {
    const options = { ...place, ...identity, minVersion, checkServerIdentity } as const;
    const socket = connect(options, () => {
      clearTimeout(timer);
      socket.setNoDelay(true);
      socket.removeListener("error", fail);
      resolve(take(socket));
    });
    const late = (): void => fail(new Error("it has not shown in time who it is"));
    const timer = setTimeout(late, handshakeTimeout);
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new FerryError("no-peer", `no link to ${where}: ${error.message}.`));
    };
    socket.on("error", fail);
  });
}

/** Makes a link to a host that must prove to be `peer`. */
export function dialTls(place: TlsPlace, peer: string, identity: Identity): Promise<Link> {
  return connectTls(place, peer, identity, (socket) => StreamLink.over([peer], socket));
}

/** Listens for links of hosts that prove who they are. */
export function listenTls(
  place: TlsPlace,
  identity: Identity,
  greet: (link: Link) => void,
): Promise<TlsListener> {
  return acceptTls(place, identity, (names, socket) => greet(StreamLink.over(names, socket)));
}

/** A place where hosts arrive that have proved who they are. */
export interface TlsListener extends Listener {
  /** From here on this host shows another certificate, and believes another authority. */
  become(identity: Identity): void;
}

/** A connection by where it comes from: its raw and its encrypted socket are two objects. */
const callerOf = ({ remoteAddress, remotePort }: Socket): string =>
  `${remoteAddress} ${remotePort}`;

/**
 * Who has connected and not shown who it is. Silence costs a caller nothing, so a newcomer is never
 * turned away for it: the oldest is.
 */
class Unnamed {
  readonly #sockets = new Map<string, Socket>();

  add(socket: Socket): void {
    const [oldest] = this.#sockets.values();
    if (this.#sockets.size >= unnamedMax) oldest?.destroy();
    const caller = callerOf(socket);
    this.#sockets.set(caller, socket);
    socket.once("close", () => this.#sockets.delete(caller));
  }

  /** It has shown who it is. */
  remove(socket: Socket): void {
    this.#sockets.delete(callerOf(socket));
  }
}

/**
 * Listens for hosts that prove who they are by a certificate of the same authority; `greet` hears
 * all of its names, at least one.
 */
export async function acceptTls(
  place: TlsPlace,
  identity: Identity,
  greet: (names: Names, socket: TLSSocket) => void,
): Promise<TlsListener> {
  const options = {
    ...identity,
    minVersion,
    handshakeTimeout,
    requestCert: true,
    rejectUnauthorized: true,
  } as const;
  const unnamed = new Unnamed();
  const server = createServer(options, (socket: TLSSocket) => {
    unnamed.remove(socket);
    const names = namesOf(socket.getPeerCertificate()).filter((name) => !ownNames.includes(name));
    const [peer, ...others] = names;
    if (peer === undefined) {
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    greet([peer, ...others], socket);
  });
  server.on("connection", (socket) => unnamed.add(socket));
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    const where = `${place.host}:${place.port}`;
    server.once("error", (error) => {
      reject(new FerryError("cannot-listen", `cannot listen on ${where}: ${error.message}.`));
    });
    server.listen(place.port, place.host, () => resolve());
  });
  const { port } = server.address() as AddressInfo;
  const address = { kind: "tls", host: place.host, port } as const;
  return {
    address,
    close: () => server.close(),
    become: (other) => server.setSecureContext({ ...other, minVersion }),
  };
}
