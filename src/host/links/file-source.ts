import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { dirname } from "node:path";
import { FerryError } from "../../base/errors.ts";
import type { Frame, Link } from "../../migration/hosts/link.ts";
import {
  decode,
  encode,
  frameHeaderBytes,
  isFrameType,
  type Message,
  type MessageOf,
  payloadBytesMax,
} from "../../migration/hosts/link-messages.ts";
import { syncFolder } from "../journal-file.ts";
import { filePeer } from "./file-target.ts";
import { openState, type StateFile, takenOf } from "./state-file.ts";

/**
 * A file as the source of a migration. It lets go of the device before it says COMMIT: it is
 * renamed to `PATH.taken`, so that no other host loads it.
 */
export class FileSource implements Link {
  readonly peer = filePeer;
  /** How the device in it was announced. */
  readonly hello: MessageOf<"hello">;
  readonly #path: string;
  readonly #state: StateFile;
  readonly #say: Message[];
  #at: number;
  /** The stream is wanted, and not at its end. */
  #streams = false;
  #taken = false;
  #closed = false;
  #refusal = "it was not taken, and nobody has said why.";
  #wake: () => void = () => {};

  private constructor(path: string, state: StateFile) {
    this.hello = state.hello;
    this.#path = path;
    this.#state = state;
    this.#at = state.framesAt;
    this.#say = [state.hello];
  }

  static async open(path: string): Promise<FileSource> {
    if (!existsSync(takenOf(path))) return new FileSource(path, await openState(path));
    throw new FerryError(
      "taken",
      `${path} was loaded by a host before: ${takenOf(path)} is there. ` +
        "Only if that host has lost the device, rename it back.",
    );
  }

  /** Why nobody has it from here, as a sentence. */
  get refusal(): string {
    return this.#refusal;
  }

  async send(frame: Frame): Promise<void> {
    if (this.#closed) throw new Error("it is closed");
    const message = decode(frame);
    if (message?.say === "accept") this.#streams = true;
    if (message?.say === "validated") {
      await this.#rename(this.#path, takenOf(this.#path));
      this.#taken = true;
      this.#say.push({ say: "commit", token: this.hello.token });
    }
    if (message?.say === "refuse") this.#refusal = message.sentence;
    // A refusal after COMMIT is durable: the file is the owner again.
    if (message?.say === "refuse" && this.#taken) {
      await this.#rename(takenOf(this.#path), this.#path);
    }
    if (message?.say === "own" || message?.say === "refuse") {
      this.#say.push({ say: "released", token: this.hello.token });
    }
    this.#wake();
  }

  async #rename(from: string, to: string): Promise<void> {
    await rename(from, to);
    await syncFolder(dirname(to));
  }

  async receive(): Promise<Frame | null> {
    while (!this.#closed) {
      const message = this.#say.shift();
      if (message !== undefined) return encode(message);
      if (this.#streams) return await this.#next();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return null;
  }

  async #next(): Promise<Frame> {
    const header = await this.#read(frameHeaderBytes);
    const type = header[0] as number;
    const length = new DataView(header.buffer).getUint32(1, true);
    if (!isFrameType(type) || length > payloadBytesMax(type)) throw new Error("it is damaged");
    const frame = { type, payload: await this.#read(length) };
    const say = decode(frame)?.say;
    if (say !== "data" && say !== "end") throw new Error("it is damaged");
    if (say === "end") this.#streams = false;
    return frame;
  }

  async #read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const { bytesRead } = await this.#state.file.read(bytes, at, length - at, this.#at);
      if (bytesRead === 0) throw new Error("it ends too early");
      at += bytesRead;
      this.#at += bytesRead;
    }
    return bytes;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
    void this.#state.file.close().catch(() => {});
  }
}
