/** The pieces of guest memory that a request reads from or writes to. */
import { SglEntry, SglHeader, sglEntriesMax } from "../../spec/hisi-sgl.ts";
import type { GuestReader, GuestWrite } from "./engine.ts";

/** What `Segments.readList` answers for a list that counts no entry or too many. */
const malformedList = 1;

const headBytes = SglHeader.size + SglEntry.size;

/**
 * A buffer of the guest's: one flat range or the segments of a hardware list. Made once and filled
 * for each request. A list is never followed to a next one: the drivers make none, and a request
 * that needs more bytes than its first list has is refused by its length.
 */
export class Segments {
  /** Bytes of all segments together. */
  totalBytes = 0;
  #count = 0;
  readonly #addresses = new Float64Array(sglEntriesMax);
  readonly #lengths = new Uint32Array(sglEntriesMax);
  readonly #list = new Uint8Array(SglHeader.size + sglEntriesMax * SglEntry.size);
  readonly #view = new DataView(this.#list.buffer);

  /** Segments of the buffer. */
  get count(): number {
    return this.#count;
  }

  /** One range of `length` bytes. */
  setFlat(address: number, length: number): void {
    this.#count = 1;
    this.#addresses[0] = address;
    this.#lengths[0] = length;
    this.totalBytes = length;
  }

  /**
   * Reads the hardware list at `address`: 0, `malformedList`, or the negated errno of a memory
   * fault. The first entry comes with the header, so a list of one takes one read.
   */
  *readList(memory: GuestReader, address: number): Generator<void, number> {
    this.#count = 0;
    this.totalBytes = 0;
    const head =
      memory.readNow(address, this.#list, 0, headBytes) ??
      (yield* memory.read(address, this.#list, 0, headBytes));
    if (head < 0) return head;
    const count = this.#view.getUint16(SglHeader.offset.entrySumInSgl, true);
    if (count === 0 || count > sglEntriesMax) return malformedList;
    if (count > 1) {
      const length = (count - 1) * SglEntry.size;
      const rest =
        memory.readNow(address + headBytes, this.#list, headBytes, length) ??
        (yield* memory.read(address + headBytes, this.#list, headBytes, length));
      if (rest < 0) return rest;
    }
    for (let index = 0; index < count; index++) this.#takeEntry(index);
    this.#count = count;
    return 0;
  }

  #takeEntry(index: number): void {
    const at = SglHeader.size + index * SglEntry.size;
    const length = this.#view.getUint32(at + SglEntry.offset.length, true);
    this.#addresses[index] = SglEntry.fields.buffer.read(this.#view, at + SglEntry.offset.buffer);
    this.#lengths[index] = length;
    this.totalBytes += length;
  }

  /**
   * Reads `length` bytes of the buffer from its byte `from` into `bytes` at `at`; 0 or the negated
   * errno of a memory fault. The caller has checked them against `totalBytes`.
   */
  *gather(
    memory: GuestReader,
    from: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): Generator<void, number> {
    let skip = from;
    let done = 0;
    for (let index = 0; index < this.#count && done < length; index++) {
      const segment = this.#lengths[index] as number;
      if (skip >= segment) {
        skip -= segment;
        continue;
      }
      const part = Math.min(segment - skip, length - done);
      const address = (this.#addresses[index] as number) + skip;
      const result =
        memory.readNow(address, bytes, at + done, part) ??
        (yield* memory.read(address, bytes, at + done, part));
      if (result < 0) return result;
      done += part;
      skip = 0;
    }
    return 0;
  }

  /**
   * Adds what writes `length` bytes of `bytes` from `at` to the buffer from its byte `from`. The
   * caller has checked them against `totalBytes`.
   */
  scatter(from: number, bytes: Uint8Array, at: number, length: number, writes: GuestWrite[]): void {
    let skip = from;
    let done = 0;
    for (let index = 0; index < this.#count && done < length; index++) {
      const segment = this.#lengths[index] as number;
      if (skip >= segment) {
        skip -= segment;
        continue;
      }
      const part = Math.min(segment - skip, length - done);
      const iova = (this.#addresses[index] as number) + skip;
      writes.push({ iova, bytes, at: at + done, length: part });
      done += part;
      skip = 0;
    }
  }
}
