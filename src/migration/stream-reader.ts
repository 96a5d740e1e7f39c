import { crc32 } from "node:zlib";
import {
  driverSections,
  SectionFlags,
  SectionHead,
  StreamEnd,
  StreamHeader,
  StreamSection,
  sectionBytesMax,
  sectionsMax,
} from "../spec/ferry-stream.ts";
import type { Section } from "./driver.ts";

/** Where in the stream the reader is. */
const Part = { header: 0, head: 1, payload: 2, end: 3 } as const;
type Part = (typeof Part)[keyof typeof Part];

/** Who judges what a stream consists of: each answers a sentence, or null. */
export interface StreamJudge {
  header(bytes: Uint8Array): string | null;
  /** A whole section, its checksums right; its bytes are good until this returns. */
  section(section: Section): string | null;
  /** What a kind is called, for people. */
  nameOf(kind: number): string;
}

/**
 * Takes a stream apart, in whatever pieces it comes. It believes nothing: a piece is handed on only
 * when it is there as a whole and its checksum fits, and one buffer of one section's size is all
 * that a stream can occupy. What it refuses it refuses for good, with a sentence.
 */
export class StreamReader {
  readonly #judge: StreamJudge;
  #buffer = new Uint8Array(StreamHeader.size);
  #have = 0;
  #want: number = StreamHeader.size;
  #part: Part = Part.header;
  #head = SectionHead.get(new DataView(new ArrayBuffer(SectionHead.size)), 0);
  #sections = 0;
  #heads = 0;
  #bytes = 0;
  #refusal: string | null = null;

  constructor(judge: StreamJudge) {
    this.#judge = judge;
  }

  /** Why the stream was refused; null while it was not. */
  get refusal(): string | null {
    return this.#refusal;
  }

  /** Has the end arrived? */
  get complete(): boolean {
    return this.#ended && this.#refusal === null;
  }

  /** Why what came cannot be the whole stream; null when it is. */
  get shortcoming(): string | null {
    if (this.#refusal !== null || this.#ended) return this.#refusal;
    const place = this.#part === Part.header ? "in its header" : `in section ${this.#sections}`;
    return `the stream ends ${place}`;
  }

  /** Takes the next bytes; a sentence when they, or some before, were refused. */
  write(bytes: Uint8Array, at: number, length: number): string | null {
    for (let done = 0; done < length && this.#refusal === null; ) {
      if (this.#ended) {
        this.#refusal = "the stream goes on behind its end";
        break;
      }
      const count = Math.min(length - done, this.#want - this.#have);
      // What is there as a whole is not kept, and so not copied.
      if (count === this.#want) {
        this.#refusal = this.#next(
          new Uint8Array(bytes.buffer, bytes.byteOffset + at + done, count),
        );
      } else this.#take(bytes, at + done, count);
      done += count;
      // A section may have no payload, which is then there at once.
      while (this.#have === this.#want && this.#refusal === null && !this.#ended) {
        this.#refusal = this.#next(this.#buffer.subarray(0, this.#want));
      }
    }
    return this.#refusal;
  }

  get #ended(): boolean {
    return this.#part === Part.end;
  }

  #take(bytes: Uint8Array, at: number, count: number): void {
    if (this.#buffer.length < this.#want) {
      const twice = Math.min(2 * this.#buffer.length, sectionBytesMax);
      const larger = new Uint8Array(Math.max(this.#want, twice));
      larger.set(this.#buffer.subarray(0, this.#have));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes.subarray(at, at + count), this.#have);
    this.#have += count;
  }

  #next(bytes: Uint8Array): string | null {
    this.#have = 0;
    if (this.#part === Part.payload) return this.#payload(bytes);
    if (this.#part === Part.head) return this.#sectionHead(bytes);
    this.#expect(Part.head, SectionHead.size);
    return this.#judge.header(bytes);
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part;
    this.#want = bytes;
  }

  #sectionHead(bytes: Uint8Array): string | null {
    const head = SectionHead.get(new DataView(bytes.buffer, bytes.byteOffset), 0);
    const place = `section ${this.#sections}`;
    this.#head = head;
    if (head.check !== crc32(bytes.subarray(0, SectionHead.offset.check))) {
      return `the head of ${place} is damaged: its checksum does not fit`;
    }
    if (head.number !== this.#sections) return `${place} has the number ${head.number}`;
    if (head.length > sectionBytesMax) return `${place} has ${head.length} bytes`;
    if (head.reserved !== 0 || (head.flags & ~SectionFlags.all) !== 0) {
      return `${place} has unknown flags`;
    }
    if (this.#sections >= sectionsMax) return `${place} is one more than there may be`;
    if (head.kind !== StreamSection.end) this.#heads = crc32(bytes, this.#heads);
    this.#expect(Part.payload, head.length);
    return null;
  }

  #payload(bytes: Uint8Array): string | null {
    const { kind, version, flags, payloadCheck } = this.#head;
    if (payloadCheck !== crc32(bytes)) {
      return `${this.#place} is damaged: its checksum does not fit`;
    }
    if (kind === StreamSection.end) return this.#end(bytes);
    const optional = (flags & SectionFlags.mask.optional) !== 0;
    const known = kind >= driverSections || kind === StreamSection.pci;
    const said = known
      ? this.#judge.section({ kind, version, optional, bytes, address: 0 })
      : unknown(optional);
    if (said !== null) return `${this.#place}: ${said}`;
    this.#sections += 1;
    this.#bytes += bytes.length;
    this.#expect(Part.head, SectionHead.size);
    return null;
  }

  get #place(): string {
    return `section ${this.#sections} (${this.#judge.nameOf(this.#head.kind)})`;
  }

  #end(bytes: Uint8Array): string | null {
    if (bytes.length !== StreamEnd.size) return `${this.#place} has ${bytes.length} bytes`;
    const end = StreamEnd.get(new DataView(bytes.buffer, bytes.byteOffset), 0);
    const counted = end.sections === this.#sections && end.bytes === this.#bytes;
    if (!counted || end.heads !== this.#heads) return `${this.#place} tells of other sections`;
    this.#expect(Part.end, 0);
    return null;
  }
}

const unknown = (optional: boolean): string | null =>
  optional ? null : "its kind is not known here, and it must not be left out";
