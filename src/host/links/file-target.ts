import { existsSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Frame, Link } from "../../migration/hosts/link.ts";
import {
  decode,
  encode,
  type Message,
  type MessageOf,
} from "../../migration/hosts/link-messages.ts";
import { syncFolder } from "../journal-file.ts";
import { frameHeader } from "./frame-reader.ts";
import { headerOf, holds, partOf, takenOf } from "./state-file.ts";

/** What a link to a file calls its other side. */
export const filePeer = "file";

/**
 * A file as the target of a migration. It takes everything, and its decision is its name: while it
 * is being written it is `PATH.part`, from the moment it is renamed to `PATH` it is the owner.
 */
export class FileTarget implements Link {
  readonly peer = filePeer;
  readonly #path: string;
  readonly #said: Message[] = [];
  #file: FileHandle | null = null;
  #wake: () => void = () => {};
  #committing = false;
  #closed = false;
  /** What was said last: threads that write at once would write in any order. */
  #turn: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Frames go into the file in the order in which they are sent, awaited or not. */
  send(frame: Frame): Promise<void> {
    const done = this.#turn.then(() => this.#take(frame));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #take(frame: Frame): Promise<void> {
    if (this.#closed) throw new Error("it is closed");
    const message = decode(frame);
    try {
      const answer = message === null ? null : await this.#obey(message, frame);
      if (answer !== null) this.#said.push(answer);
    } catch (thrown) {
      this.close();
      throw thrown;
    }
    this.#wake();
  }

  /** Does what a message asks for, and answers as a host would. */
  async #obey(message: Message, frame: Frame): Promise<Message | null> {
    switch (message.say) {
      case "hello":
        return await this.#begin(message);
      case "data":
        await this.#write(frame);
        return null;
      case "end":
        await this.#write(frame);
        await this.#file?.sync();
        return { say: "validated" };
      case "commit":
        await this.#commit();
        return { say: "own", trouble: "", phases: [] };
      case "query":
        return { say: "answer", ...(await this.#know(message.token)) };
      case "ping":
        return { say: "ping" };
      default:
        return null;
    }
  }

  async #begin(hello: MessageOf<"hello">): Promise<Message> {
    const path = this.#path;
    const there = [path, partOf(path), takenOf(path)].find((each) => existsSync(each));
    if (there !== undefined) {
      const sentence = `${there} is there already: name another file, or remove what nobody needs.`;
      return { say: "refuse", sentence };
    }
    if (hello.purpose === "precheck") return { say: "accept", device: path };
    this.#file = await open(partOf(path), "wx", 0o600);
    await this.#file.write(headerOf(hello));
    await syncFolder(dirname(path));
    return { say: "accept", device: path };
  }

  async #write(frame: Frame): Promise<void> {
    const parts = [frameHeader(frame), frame.payload];
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    if (this.#file === null) throw new Error("nothing was announced");
    const { bytesWritten } = await this.#file.writev(parts);
    if (bytesWritten !== length) throw new Error("there is no room for more");
  }

  async #commit(): Promise<void> {
    const path = this.#path;
    this.#committing = true;
    await rename(partOf(path), path);
    await syncFolder(dirname(path));
  }

  /** The name tells; without any there is no telling. */
  async #know(token: string): Promise<Pick<MessageOf<"answer">, "fate" | "sentence">> {
    const path = this.#path;
    if ((await holds(path, token)) || (await holds(takenOf(path), token))) {
      await syncFolder(dirname(path));
      return { fate: "own", sentence: "" };
    }
    if (!(await holds(partOf(path), token))) {
      return {
        fate: "undecided",
        sentence: `${path} is not there any more: find out where it is.`,
      };
    }
    await rm(partOf(path));
    await syncFolder(dirname(path));
    return { fate: "never", sentence: "The file was not complete." };
  }

  async receive(): Promise<Frame | null> {
    while (this.#said.length === 0 && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#said.shift();
    return message === undefined ? null : encode(message);
  }

  /** What was not to be the owner leaves nothing behind; what may be is left for QUERY. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
    const file = this.#file;
    if (file === null) return;
    void file
      .close()
      .then(() => (this.#committing ? undefined : rm(partOf(this.#path), { force: true })))
      .catch(() => {});
  }
}
