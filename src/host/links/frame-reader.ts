import type { Frame } from "../../migration/hosts/link.ts";
import {
  controlBytesMax,
  frameHeaderBytes,
  isFrameType,
  payloadBytesMax,
} from "../../migration/hosts/link-messages.ts";

/** Memory of payloads that is kept for later ones. */
export const sparesMax = 8;

const empty = new Uint8Array(0);

/** The header of a frame, as it is sent. */
export function frameHeader({ type, payload }: Frame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(frameHeaderBytes);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, payload.length, true);
  return bytes;
}

/**
 * Cuts frames out of a stream. Bytes are read to where they belong: `room` says where the next ones
 * go, `filled` how many have come. A payload is memory of its own that nobody else keeps, and
 * that of a large one can be given back.
 */
export class FrameReader {
  readonly #header = new Uint8Array(frameHeaderBytes);
  readonly #view = new DataView(this.#header.buffer);
  readonly #take: (frame: Frame) => void;
  #payload: Uint8Array<ArrayBuffer> | null = null;
  #at = 0;
  readonly #spares: Array<Uint8Array<ArrayBuffer>> = [];
  /** The stream makes no sense: nothing more is read. */
  broken = false;

  constructor(take: (frame: Frame) => void) {
    this.#take = take;
  }

  /** Where the next bytes go: never beyond the header or payload that is being read. */
  readonly room = (): Uint8Array<ArrayBuffer> => (this.#payload ?? this.#header).subarray(this.#at);

  filled(bytes: number): void {
    this.#at += bytes;
    if (this.#payload === null) this.#readHeader();
    if (this.#payload !== null && this.#at === this.#payload.length) this.#deliver();
  }

  /** Takes bytes that lie elsewhere. */
  copy(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.broken; ) {
      const room = this.room();
      const count = Math.min(room.length, bytes.length - at);
      room.set(bytes.subarray(at, at + count));
      at += count;
      this.filled(count);
    }
  }

  #readHeader(): void {
    if (this.#at < frameHeaderBytes) return;
    const length = this.#view.getUint32(1, true);
    if (length > payloadBytesMax(this.#header[0] as number)) {
      this.broken = true;
      return;
    }
    this.#at = 0;
    this.#payload = length === 0 ? empty : this.#memory(length);
  }

  /** Not zeroed: every byte of it is written before anybody sees it. */
  #memory(length: number): Uint8Array<ArrayBuffer> {
    const spare = length > controlBytesMax ? this.#spares.pop() : undefined;
    return spare !== undefined && spare.length >= length
      ? spare.subarray(0, length)
      : unzeroed(length);
  }

  /** Takes the memory of a large payload back: touching new memory takes longer than copying. */
  recycle({ buffer }: Uint8Array<ArrayBuffer>): void {
    const isLarge = buffer.byteLength > controlBytesMax;
    if (isLarge && this.#spares.length < sparesMax) this.#spares.push(new Uint8Array(buffer));
  }

  #deliver(): void {
    const type = this.#header[0] as number;
    const payload = this.#payload as Uint8Array<ArrayBuffer>;
    this.#payload = null;
    this.#at = 0;
    if (isFrameType(type)) this.#take({ type, payload });
  }
}

function unzeroed(length: number): Uint8Array<ArrayBuffer> {
  const { buffer } = Buffer.allocUnsafeSlow(length);
  return new Uint8Array(buffer);
}
