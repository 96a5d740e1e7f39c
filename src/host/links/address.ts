import { FerryError } from "../../base/errors.ts";

/** Where the other side of a migration is, as it is written on a command line. */
export type Address =
  | { readonly kind: "tls"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "file"; readonly path: string };

const portMax = 65_535;

/** Reads `tls://host:port`, `unix:PATH` or `file:PATH`. */
export function parseAddress(text: string): Address {
  const tls = /^tls:\/\/(?:\[([0-9a-f:]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text);
  if (tls !== null && Number(tls[3]) <= portMax) {
    return { kind: "tls", host: (tls[1] ?? tls[2]) as string, port: Number(tls[3]) };
  }
  const path = /^(unix|file):(.+)$/.exec(text);
  if (path !== null) return { kind: path[1] as "unix" | "file", path: path[2] as string };
  throw new FerryError(
    "bad-argument",
    `${text} is no place to migrate to: write tls://HOST:PORT, unix:PATH or file:PATH.`,
  );
}

/** An address as `parseAddress` reads it. */
export function formatAddress(address: Address): string {
  if (address.kind !== "tls") return `${address.kind}:${address.path}`;
  const { host, port } = address;
  return `tls://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
