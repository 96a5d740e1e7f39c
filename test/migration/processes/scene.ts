/** Two daemons, the link between them, and a guest: all that takes part in a migration. */
import { createServer } from "node:net";
import { join } from "node:path";
import { makeAuthority, makeHost } from "../../../src/cli/pki-files.ts";
import { temporaryFolder } from "../../support/ferry.ts";
import { LinkRelay } from "../../support/link-relay.ts";
import { MigratingHost } from "../../support/migrating-host.ts";
import type { Link } from "./faults.ts";
import { GuestProcess } from "./guest-process.ts";

const device = ["hisi-sec2"] as const;
const names = ["alice", "bob"] as const;

/** Certificates, made once for all scenes. */
export async function makeCertificates(folder: string): Promise<void> {
  const authority = await makeAuthority(folder);
  for (const name of names) await makeHost(folder, authority, name);
}

/** A port of this machine that nobody listens on. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number };
      server.close(() => resolve(port));
    });
  });
}

/** What a source is told of its target. */
export interface Destination {
  readonly to: string;
  readonly token: string;
  readonly pki?: string;
  readonly peer?: string;
}

export class Scene {
  readonly source: MigratingHost;
  readonly target: MigratingHost;
  readonly relay: LinkRelay;
  /** Where the target listens, behind the relay. */
  readonly #listen: string;
  readonly #pki: string | null;
  readonly #folder: ReturnType<typeof temporaryFolder>;
  guest: GuestProcess;

  private constructor(
    folder: ReturnType<typeof temporaryFolder>,
    hosts: readonly [MigratingHost, MigratingHost],
    guest: GuestProcess,
    link: { readonly relay: LinkRelay; readonly listen: string; readonly pki: string | null },
  ) {
    [this.source, this.target] = hosts;
    this.#folder = folder;
    this.guest = guest;
    this.relay = link.relay;
    this.#listen = link.listen;
    this.#pki = link.pki;
  }

  static async begin(link: Link, certificates: string): Promise<Scene> {
    const folder = temporaryFolder();
    const start = (name: string) => MigratingHost.start(name, folder.path, device);
    const [source, target] = await Promise.all([start("alice"), start("bob")]);
    const guest = await GuestProcess.boot(source.socket);
    const port = await freePort();
    const [near, far] = ["relay", "bob.mig"].map((name) => join(folder.path, name));
    const relay = await (link === "tls"
      ? LinkRelay.listen(0, port)
      : LinkRelay.listen(near as string, far as string));
    const listen = link === "tls" ? `tls://127.0.0.1:${port}` : `unix:${far}`;
    const pki = link === "tls" ? certificates : null;
    return new Scene(folder, [source, target], guest, { relay, listen, pki });
  }

  /** A place at the target, behind the relay. */
  async offered(): Promise<Destination> {
    const pki = this.#pki === null ? {} : { pki: join(this.#pki, "bob") };
    const from = this.#pki === null ? "local" : "alice";
    const { token } = await this.target.offer({ from, listen: this.#listen, ...pki });
    const ours = this.#pki === null ? {} : { pki: join(this.#pki, "alice"), peer: "bob" };
    return { to: this.relay.address, token, ...ours };
  }

  /** A new guest takes the device of a host over whose own guest is lost. */
  async bootAgain(at: MigratingHost): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    await at.free();
    this.guest = await GuestProcess.boot(at.socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    this.relay[Symbol.dispose]();
    await Promise.all([this.source, this.target].map((host) => host[Symbol.asyncDispose]()));
    this.#folder[Symbol.dispose]();
  }
}
