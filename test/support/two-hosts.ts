/** Two hosts of one authority: `bob` serves devices to `alice`, which relays them. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { makeAuthority, makeHost } from "../../src/cli/pki-files.ts";
import { Ferry, temporaryFolder } from "./ferry.ts";

/** What a link does on the way: it leads to a port or a socket's path. */
export interface LinkOptions {
  readonly to: { readonly port: number } | { readonly path: string };
  /** It ends TLS as this host. */
  readonly identity?: object;
  /** What it pours in besides once it is told to. */
  readonly flood?: Uint8Array;
}

/** A link in a thread of its own; see `link-thread.mjs`. */
export class Link {
  readonly #worker: Worker;
  address = "";

  private constructor(workerData: LinkOptions) {
    this.#worker = new Worker(new URL("./link-thread.mjs", import.meta.url), { workerData });
  }

  static async make(options: LinkOptions): Promise<Link> {
    const link = new Link(options);
    const port = await new Promise((resolve) => link.#worker.once("message", resolve));
    link.address = `tls://127.0.0.1:${port}`;
    return link;
  }

  tell(order: "cut" | "stall" | "flood"): void {
    this.#worker.postMessage(order);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** A process that serves, and its socket. */
export interface Server {
  readonly ferry: Ferry;
  readonly socket: string;
}

export class TwoHosts {
  readonly #folder = temporaryFolder();
  readonly #ferries: Ferry[] = [];
  readonly #links: Link[] = [];

  /** Makes the certificates of both, and of `eve`, whom the authority knows too. */
  async prepare(): Promise<void> {
    const authority = await makeAuthority(this.#pki);
    for (const host of ["alice", "bob", "eve"]) await makeHost(this.#pki, authority, host);
    const stranger = await makeAuthority(this.path("others"));
    await makeHost(this.path("others"), stranger, "alice");
  }

  path(name: string): string {
    return join(this.#folder.path, name);
  }

  get #pki(): string {
    return this.path("pki");
  }

  /** Where a host's certificate is; `others` are those of another authority. */
  pkiOf(host: string, authority: "pki" | "others" = "pki"): string {
    return join(this.path(authority), host);
  }

  /** Serves a device to nobody but local clients. */
  async local(name: string, ...device: readonly string[]): Promise<Server> {
    const socket = this.path(`${name}.sock`);
    const ferry = await Ferry.start([...device, "--socket-path", socket]);
    this.#ferries.push(ferry);
    return { ferry, socket };
  }

  /** Serves a device at bob's to alice, who finds it at `address`. */
  async far(
    name: string,
    ...device: readonly string[]
  ): Promise<Server & { readonly address: string }> {
    const socket = this.path(`${name}.sock`);
    const to = ["--remote", "tls://127.0.0.1:0", "--pki", this.pkiOf("bob"), "--peer", "alice"];
    const ferry = await Ferry.start([...device, "--socket-path", socket, ...to]);
    this.#ferries.push(ferry);
    const address = ferry.lines.find((line) => line.remote !== undefined)?.remote ?? "";
    return { ferry, socket, address };
  }

  /** The command line by which a host relays what is at an address. */
  relayArgs(name: string, address: string, host = "alice", peer = "bob"): string[] {
    const pki = ["--peer", peer, "--pki", this.pkiOf(host)];
    return [address, "--socket-path", this.path(`${name}.sock`), ...pki];
  }

  /** Relays it at alice's. */
  async near(name: string, address: string): Promise<Server> {
    const ferry = await Ferry.startVerb("relay", this.relayArgs(name, address));
    this.#ferries.push(ferry);
    return { ferry, socket: this.path(`${name}.sock`) };
  }

  /** A device at bob's that alice relays. */
  async relayed(...device: readonly string[]): Promise<{ there: Server; here: Server }> {
    const there = await this.far("far", ...device);
    return { there, here: await this.near("near", there.address) };
  }

  /** The same over a link that can be cut. */
  async cuttable(
    ...device: readonly string[]
  ): Promise<{ there: Server; here: Server; link: Link }> {
    const there = await this.far("far", ...device);
    const link = await this.link({ to: { port: Number(/\d+$/.exec(there.address)?.[0]) } });
    return { there, here: await this.near("near", link.address), link };
  }

  async link(options: LinkOptions): Promise<Link> {
    const link = await Link.make(options);
    this.#links.push(link);
    return link;
  }

  /** Ends what was started since the last time. */
  async rest(): Promise<void> {
    for (const ferry of this.#ferries.splice(0)) await ferry[Symbol.asyncDispose]();
    for (const link of this.#links.splice(0)) await link.end();
  }

  async end(): Promise<void> {
    await this.rest();
    this.#folder[Symbol.dispose]();
  }
}
