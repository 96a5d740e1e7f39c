import { closeSync, openSync, writeSync } from "node:fs";
import { FerryError, messageOf } from "../../base/errors.ts";
import { print } from "../output.ts";
import type { SeenMessage } from "./message-meter.ts";
import {
  headBytesMax,
  type MessageRecord,
  renderRecord,
  type TraceRecord,
  traceHead,
} from "./trace-record.ts";

/** Where a trace goes: lines to standard output, records to a file. */
export class TraceLog {
  /** False when nobody reads the lines any more. */
  isRead = true;
  /** Messages so far. */
  messages = 0;
  readonly #asJson: boolean;
  readonly #path: string | null;
  readonly #fd: number;
  readonly #begin: number;
  #lines: string[] = [];
  #records: string[] = [];

  /** Begins a trace now; `path` names the file to record to, or null. */
  constructor(asJson: boolean, path: string | null) {
    this.#asJson = asJson;
    this.#path = path;
    this.#fd = path === null ? -1 : open(path);
    this.#begin = performance.now();
    const head = JSON.stringify(traceHead(new Date()));
    this.#records.push(head);
    if (asJson) this.#lines.push(head);
  }

  get #now(): number {
    return Math.round((performance.now() - this.#begin) * 1000);
  }

  event(session: number, event: string): void {
    this.#add({ t: this.#now, session, event });
  }

  message(
    session: number,
    socket: MessageRecord["socket"],
    to: MessageRecord["to"],
    { bytes, size, fdCount }: SeenMessage,
  ): void {
    this.messages += 1;
    const head = Buffer.from(bytes.subarray(0, headBytesMax)).toString("base64");
    this.#add({ t: this.#now, session, socket, to, size, fds: fdCount, head });
  }

  #add(record: TraceRecord): void {
    const text = this.#asJson || this.#fd >= 0 ? JSON.stringify(record) : "";
    this.#lines.push(this.#asJson ? text : renderRecord(record));
    if (this.#fd >= 0) this.#records.push(text);
  }

  /** Writes what has gathered; between two calls it is what the sockets' buffers can hold. */
  flush(): void {
    if (this.#lines.length > 0) this.isRead &&= print(this.#lines.join("\n"));
    this.#lines = [];
    if (this.#fd >= 0 && this.#records.length > 0) this.#write(`${this.#records.join("\n")}\n`);
    this.#records = [];
  }

  #write(text: string): void {
    const bytes = Buffer.from(text);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (thrown) {
      const why = messageOf(thrown);
      throw new FerryError("cannot-record", `cannot record to ${this.#path}: ${why}.`);
    }
  }

  close(): void {
    this.flush();
    if (this.#fd >= 0) closeSync(this.#fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, "w", 0o600);
  } catch (thrown) {
    throw new FerryError("cannot-record", `cannot record to ${path}: ${messageOf(thrown)}.`);
  }
}
