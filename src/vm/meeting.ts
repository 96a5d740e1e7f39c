/** Where the two sides of a VM's migration meet, and how they know each other. */
import { FerryError } from "../base/errors.ts";

/** Who may send a device to a server of the same user. */
export const sameUser = "local";

/** Where two servers meet. */
export interface Meeting {
  /** `unix:PATH` or `tls://HOST:PORT`: the target listens there. */
  readonly address: string;
  /** Who may send the device: a name in a certificate, or `local` over a unix socket. */
  readonly from: string;
  /** Who has to take it; undefined for the host's name in the address. */
  readonly peer?: string | undefined;
  /** The folder of the source's certificate, and of the target's, each on its host. */
  readonly pki?: string | undefined;
  readonly toPki?: string | undefined;
}

/** What an operator may say of two hosts. */
export interface TwoHosts {
  readonly from?: string | undefined;
  readonly peer?: string | undefined;
  readonly pki?: string | undefined;
  readonly toPki?: string | undefined;
}

/** A meeting at an address, and of two QEMUs at `memory`: all that two hosts need is there. */
export function meetingAt(address: string, memory: string, hosts: TwoHosts): Meeting {
  const { from, peer, pki, toPki } = hosts;
  if (address.startsWith("unix:")) {
    if (Object.values(hosts).every((said) => said === undefined))
      return { address, from: sameUser };
    const names = "--from, --peer, --pki and --to-pki";
    throw new FerryError("usage", `${names} are for two hosts: say --link tls://HOST:PORT too.`);
  }
  if (!address.startsWith("tls://")) {
    throw new FerryError("bad-argument", `--link ${address} is no tls://HOST:PORT, no unix:PATH.`);
  }
  const isReachable = memory.startsWith("tcp:");
  if (from !== undefined && pki !== undefined && toPki !== undefined && isReachable) {
    return { address, from, peer, pki, toPki };
  }
  const needed = "--from NAME, --pki FOLDER, --to-pki FOLDER and --memory tcp:HOST:PORT";
  throw new FerryError("usage", `two hosts that meet at ${address} need ${needed}.`);
}

/**
 * Where a device comes back that has met its target at `link`: the same two servers, the other way
 * round, at an address of the source's.
 */
export function homeOf(
  { address: there, from, peer, pki, toPki }: Meeting,
  address: string,
): Meeting {
  if (!there.startsWith("tls://")) return { address, from: sameUser };
  if (!address.startsWith("tls://")) {
    throw new FerryError("bad-argument", `--home ${address} is no tls://HOST:PORT.`);
  }
  return { address, from: peer ?? new URL(there).hostname, peer: from, pki: toPki, toPki: pki };
}
