import type { Socket } from "node:net";
import type { Frame, Link } from "../../migration/hosts/link.ts";
import { FrameReader, frameHeader } from "./frame-reader.ts";
import { type Onread, readInto } from "./read-into.ts";
import { SpentBuffers } from "./spent-buffers.ts";

/** Frames that have come and nobody has asked for, before no more are read. */
const unreadMax = 2;
/** How long a side that has ended a link waits for the other one to have heard it. */
export const lingerMs = 2000;

/** What the other side is called: at least one name, and each is proved. */
export type Names = readonly [peer: string, ...others: string[]];

/** Frames over a connected stream socket, whatever it is made of. */
export class StreamLink implements Link {
  readonly peer: string;
  readonly otherNames: readonly string[];
  readonly #socket: Socket;
  readonly #reader: FrameReader;
  readonly #frames: Frame[] = [];
  #wake: () => void = () => {};
  /** Done when all frames so far are out. */
  #sending: Promise<void> = Promise.resolve();
  #written: () => void = () => {};
  #over: string | null = null;
  #closed = false;

  /** `reader` cuts out of what comes the frames that `take` is told of. */
  constructor([peer, ...others]: Names, socket: Socket, reader: FrameReader) {
    this.peer = peer;
    this.otherNames = others;
    this.#reader = reader;
    this.#socket = socket;
    socket.on("error", (error) => this.#end(error.message));
    socket.on("end", () => this.#end("the other side has ended it"));
    socket.on("close", () => this.#end("it is closed"));
  }

  /** For a socket that is still to be made: what it is made with, and the link that it becomes. */
  static beforehand(): { onread: Onread; linkOf(names: Names, socket: Socket): StreamLink } {
    let link: StreamLink | null = null;
    const reader = new FrameReader((frame) => link?.take(frame));
    const onread = {
      buffer: reader.room,
      callback: (bytes: number): boolean => {
        reader.filled(bytes);
        return link?.readOn() ?? false;
      },
    };
    return { onread, linkOf: (names, socket) => (link = new StreamLink(names, socket, reader)) };
  }

  /** Over a socket that node has made and may have read of already. */
  static over(names: Names, socket: Socket): StreamLink {
    const { onread, linkOf } = StreamLink.beforehand();
    const link = linkOf(names, socket);
    if (readInto(socket, onread)) {
      socket.resume();
      link.#copy(socket.read());
    } else link.#readBuffers();
    return link;
  }

  /** Node reads into buffers of its own. */
  #readBuffers(): void {
    const spent = new SpentBuffers();
    this.#socket.on("data", (bytes: Uint8Array) => {
      this.#copy(bytes);
      spent.add(bytes.length);
    });
  }

  #copy(bytes: Uint8Array | null): void {
    if (bytes !== null) this.#reader.copy(bytes);
    if (!this.readOn()) this.#socket.pause();
  }

  /** A frame has come. */
  take(frame: Frame): void {
    if (this.#closed) return;
    this.#frames.push(frame);
    this.#wake();
  }

  get #full(): boolean {
    return this.#frames.length >= unreadMax;
  }

  /** After something was read: whether more is to be read now. */
  readOn(): boolean {
    if (this.#reader.broken) this.#break();
    return !this.#reader.broken && !this.#full;
  }

  recycle(payload: Uint8Array<ArrayBuffer>): void {
    this.#reader.recycle(payload);
  }

  #break(): void {
    this.#end("it sent what makes no sense");
    this.#socket.destroy();
  }

  async send(frame: Frame): Promise<void> {
    if (this.#over !== null || this.#closed) throw new Error(this.#over ?? "it is closed");
    const sent = this.#sending.then(() => this.#write(frame));
    this.#sending = sent.catch(() => {});
    await sent;
  }

  /** One at a time, and all of it at once: each write of its own would cost a turn. */
  async #write(frame: Frame): Promise<void> {
    const socket = this.#socket;
    await new Promise<void>((resolve) => {
      this.#written = resolve;
      if (this.#over !== null) return resolve();
      socket.cork();
      socket.write(frameHeader(frame));
      socket.write(frame.payload, () => resolve());
      socket.uncork();
    });
    if (this.#over !== null) throw new Error(this.#over);
  }

  async receive(): Promise<Frame | null> {
    while (this.#frames.length === 0 && this.#over === null) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const frame = this.#frames.shift() ?? null;
    if (this.#over === null && !this.#full) this.#socket.resume();
    return frame;
  }

  #end(why: string): void {
    this.#over ??= why;
    this.#wake();
    this.#written();
  }

  /** What still comes is read and thrown away: unread, it would take back what was sent last. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#end("this side has closed it");
    const socket = this.#socket;
    const timer = setTimeout(() => socket.destroy(), lingerMs);
    socket.once("close", () => clearTimeout(timer));
    socket.once("end", () => socket.destroySoon());
    socket.end();
    socket.resume();
  }
}
