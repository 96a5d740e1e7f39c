import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import type { MigrationSink } from "../device/vfio-device.ts";
import {
  SectionFlags,
  SectionHead,
  StreamEnd,
  StreamSection,
  sectionBytesMax,
} from "../spec/ferry-stream.ts";
import type { Section } from "./driver.ts";

const flags = SectionFlags.mask;

/**
 * Cuts a header, sections and an end into whatever pieces are asked for. Sections are fetched one
 * at a time, when their bytes are wanted: none is kept.
 */
export class StreamWriter {
  readonly #head = new Uint8Array(SectionHead.size);
  readonly #headView = new DataView(this.#head.buffer);
  readonly #end = new Uint8Array(StreamEnd.size);
  /** What is being given out: first `#first`, then `#section`'s bytes. */
  #first: Uint8Array = new Uint8Array(0);
  #firstAt = 0;
  #section: Section | null = null;
  #sectionAt = 0;
  #ended = true;
  #sections = 0;
  #heads = 0;
  #bytes = 0;

  /** Begins a stream with this header. */
  begin(header: Uint8Array): void {
    this.#first = header;
    this.#firstAt = 0;
    this.#section = null;
    this.#ended = false;
    this.#sections = 0;
    this.#heads = 0;
    this.#bytes = 0;
  }

  /** Is something still to be given out of what was fetched? */
  get left(): number {
    const section = this.#section === null ? 0 : this.#section.bytes.length - this.#sectionAt;
    return this.#first.length - this.#firstAt + section;
  }

  /**
   * Up to `length` bytes; fewer when `next` has no section and `final` is false, or at the stream's
   * end. With `final`, no section means the end. `uncut` ends a piece where a section begins that
   * has room in the next one as a whole.
   */
  read(
    sink: MigrationSink,
    length: number,
    next: () => Section | null,
    final: boolean,
    uncut = false,
  ): number {
    for (let done = 0; ; ) {
      const lent = done === 0 && this.#lend(sink, length);
      if (lent) return length;
      done += this.#copy(sink, done, length - done);
      if (done === length || !this.#fetch(next, final)) return done;
      if (uncut && done > 0 && this.left > length - done && this.left <= length) return done;
    }
  }

  /** Lends a piece that is all of the answer. */
  #lend(sink: MigrationSink, length: number): boolean {
    const section = this.#section;
    if (this.#firstAt < this.#first.length || section === null || section.address === 0)
      return false;
    if (length === 0 || section.bytes.length - this.#sectionAt < length) return false;
    sink.lend(section.address + this.#sectionAt, length);
    this.#sectionAt += length;
    return true;
  }

  #copy(sink: MigrationSink, done: number, room: number): number {
    const first = Math.min(room, this.#first.length - this.#firstAt);
    sink.bytes.set(this.#first.subarray(this.#firstAt, this.#firstAt + first), sink.at + done);
    this.#firstAt += first;
    const section = this.#section;
    if (section === null) return first;
    const rest = Math.min(room - first, section.bytes.length - this.#sectionAt);
    const from = section.bytes.subarray(this.#sectionAt, this.#sectionAt + rest);
    sink.bytes.set(from, sink.at + done + first);
    this.#sectionAt += rest;
    return first + rest;
  }

  /** Puts the next section in line; false when there is none. */
  #fetch(next: () => Section | null, final: boolean): boolean {
    if (this.#ended) return false;
    const section = next();
    if (section === null && !final) return false;
    this.#put(section ?? this.#finish());
    this.#ended = section === null;
    return true;
  }

  #put(section: Section): void {
    const { kind, version, optional, bytes } = section;
    assert(bytes.length <= sectionBytesMax, `a section ${kind} of ${bytes.length} bytes`);
    SectionHead.set(this.#headView, 0, {
      kind,
      version,
      flags: optional ? flags.optional : 0,
      reserved: 0,
      number: this.#sections,
      length: bytes.length,
      payloadCheck: crc32(bytes),
      check: 0,
    });
    const { check } = SectionHead.offset;
    this.#headView.setUint32(check, crc32(this.#head.subarray(0, check)), true);
    this.#heads = crc32(this.#head, this.#heads);
    this.#sections += 1;
    this.#bytes += bytes.length;
    this.#first = this.#head;
    this.#firstAt = 0;
    this.#section = section;
    this.#sectionAt = 0;
  }

  #finish(): Section {
    const counts = { sections: this.#sections, heads: this.#heads, bytes: this.#bytes };
    StreamEnd.set(new DataView(this.#end.buffer), 0, counts);
    const { end } = StreamSection;
    return { kind: end, version: 1, optional: false, bytes: this.#end, address: 0 };
  }
}
