/** Stands between two hosts, sees what they say to each other, and can spoil it. */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { FrameReader, frameHeader } from "../../src/host/links/frame-reader.ts";
import { type MessageName, messages } from "../../src/migration/hosts/link-messages.ts";

/** What is carried at a time: a message, or of a link that is encrypted whatever came. */
export type Said = MessageName | "bytes";
/** `arrives`: it is not passed on before the promise is kept. `taken`: it was passed on. */
export type Hear = (said: Said, step: "arrives" | "taken") => Promise<void> | void;

/** Where a relay listens or dials: a unix socket's path, or a port of this machine. */
export type RelayPlace = string | number;

const names = new Map<number, MessageName>(
  Object.entries(messages).map(([name, { type }]) => [type, name as MessageName]),
);

type Carry = (said: Said, bytes: Uint8Array) => void;

/** Cuts what comes into what is carried at a time. */
function cutter(readable: boolean, carry: Carry): (bytes: Uint8Array) => void {
  if (!readable) return (bytes) => carry("bytes", bytes);
  const reader = new FrameReader((frame) => {
    const bytes = Buffer.concat([frameHeader(frame), frame.payload]);
    carry(names.get(frame.type) as MessageName, bytes);
  });
  return (bytes) => reader.copy(bytes);
}

/** Both ends of a link that goes through here. */
class Lane {
  readonly sockets: readonly [Socket, Socket];
  #works: Promise<void> = Promise.resolve();

  constructor(near: Socket, far: Socket, relay: LinkRelay, readable: boolean) {
    this.sockets = [near, far];
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      const carry: Carry = (said, bytes) => {
        this.#works = this.#works.then(() => relay.carry(to, said, bytes));
      };
      from.on("data", cutter(readable, carry));
      from.on("error", () => {});
      // What has arrived is still carried: a host's last words come before its end.
      from.on("close", () => void this.#works.then(() => relay.open()).then(() => to.destroy()));
    }
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }
}

export class LinkRelay {
  /** As a source is told of it: `unix:PATH`, `tls://127.0.0.1:7100`. */
  readonly address: string;
  hear: Hear = () => {};
  /** No new link is made while this is so. */
  refuses = false;
  readonly #server: Server;
  #lanes: Lane[] = [];
  /** Kept while nothing is carried. */
  #stall: PromiseWithResolvers<void> | null = null;

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  /** Listens at `at` for links to `to`; of a unix socket it reads the messages. */
  static async listen(at: RelayPlace, to: RelayPlace): Promise<LinkRelay> {
    const server = createServer();
    await new Promise<void>((resolve) => {
      if (typeof at === "string") server.listen(at, resolve);
      else server.listen(at, "127.0.0.1", resolve);
    });
    const place = server.address() as string | { readonly port: number };
    const address = typeof place === "string" ? `unix:${place}` : `tls://127.0.0.1:${place.port}`;
    const relay = new LinkRelay(server, address);
    server.on("connection", (near) => relay.#connect(near, to));
    return relay;
  }

  #connect(near: Socket, to: RelayPlace): void {
    near.on("error", () => {});
    if (this.refuses) return void near.destroy();
    near.pause();
    const far = typeof to === "string" ? dial(to) : dial(to, "127.0.0.1");
    far.on("error", () => near.destroy());
    far.on("connect", () => {
      this.#lanes.push(new Lane(near, far, this, typeof to === "string"));
      near.resume();
    });
  }

  /** Kept at once unless the link stalls. */
  async open(): Promise<void> {
    await this.#stall?.promise;
  }

  /** Passes on one piece, after whoever listens. */
  async carry(to: Socket, said: Said, bytes: Uint8Array): Promise<void> {
    await this.hear(said, "arrives");
    await this.open();
    if (to.destroyed) return;
    // Told, with an error, when the socket is destroyed meanwhile, too.
    await new Promise<void>((resolve) => to.write(bytes, () => resolve()));
    await this.hear(said, "taken");
  }

  /** Both sides see their link end. */
  cut(): void {
    for (const lane of this.#lanes) lane.cut();
    this.#lanes = [];
  }

  /** Neither side sees anything; what is said stays here until the link goes on. */
  stall(): void {
    this.#stall ??= withResolvers();
  }

  goOn(): void {
    this.#stall?.resolve();
    this.#stall = null;
  }

  [Symbol.dispose](): void {
    this.goOn();
    this.cut();
    this.#server.close();
  }
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
}

function withResolvers(): PromiseWithResolvers<void> {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((keep) => {
    resolve = keep;
  });
  return { promise, resolve };
}
