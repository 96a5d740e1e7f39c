import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { Section } from "../../src/migration/driver.ts";
import { StreamReader } from "../../src/migration/stream-reader.ts";
import { StreamWriter } from "../../src/migration/stream-writer.ts";
import {
  SectionHead,
  StreamEnd,
  StreamHeader,
  sectionBytesMax,
} from "../../src/spec/ferry-stream.ts";

const header = Uint8Array.from({ length: StreamHeader.size }, (_, i) => i);

const section = (kind: number, bytes: Uint8Array, optional = false): Section => ({
  kind,
  version: 1,
  optional,
  bytes,
  address: 0,
});

/** The pieces that a writer gives for these sections, until it has nothing more. */
function piecesOf(sections: readonly Section[], piece: number, uncut: boolean): Buffer[] {
  const writer = new StreamWriter();
  writer.begin(header);
  const waiting = [...sections];
  const out: Buffer[] = [];
  for (;;) {
    const bytes = Buffer.alloc(piece);
    const sink = { bytes, at: 0, lend: () => {} };
    const count = writer.read(sink, piece, () => waiting.shift() ?? null, true, uncut);
    if (count === 0) return out;
    out.push(bytes.subarray(0, count));
  }
}

/** All of them, of which only the last one is shorter. */
function written(sections: readonly Section[], piece = 4096): Uint8Array {
  const pieces = piecesOf(sections, piece, false);
  expect(pieces.slice(0, -1).every(({ length }) => length === piece)).toBe(true);
  return Buffer.concat(pieces);
}

/** A reader that keeps what it was given. */
function reading(judge: (section: Section) => string | null = () => null) {
  const got: Array<{ kind: number; bytes: Uint8Array }> = [];
  const reader = new StreamReader({
    header: () => null,
    section: (each) => {
      got.push({ kind: each.kind, bytes: each.bytes.slice() });
      return judge(each);
    },
    nameOf: (kind) => (kind === 0x101 ? "queues" : `kind ${kind}`),
  });
  return { got, reader };
}

/** Bytes of each piece of memory that is made while something is done. */
function made(work: () => void): number[] {
  const sizes: number[] = [];
  const construct = (target: typeof Uint8Array, given: unknown[]): object => {
    if (typeof given[0] === "number") sizes.push(given[0]);
    return Reflect.construct(target, given);
  };
  vi.stubGlobal("Uint8Array", new Proxy(Uint8Array, { construct }));
  try {
    work();
  } finally {
    vi.unstubAllGlobals();
  }
  return sizes;
}

const some = [
  section(0x100, Uint8Array.of(1, 2, 3)),
  section(0x101, new Uint8Array(0)),
  section(0x102, new Uint8Array(5000).fill(7), true),
];

/** Where each section's head begins in what `written(some)` gives. */
function heads(): number[] {
  let at: number = StreamHeader.size;
  return [...some, null].map((each) => {
    const head = at;
    at += SectionHead.size + (each?.bytes.length ?? StreamEnd.size);
    return head;
  });
}

describe("a stream", () => {
  it("comes out as it went in, whatever the pieces", () => {
    const payload = fc.uint8Array({ maxLength: 300 });
    const pieces = fc.integer({ min: 1, max: 400 });
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 6 }), pieces, pieces, (payloads, out, back) => {
        const sections = payloads.map((bytes, i) => section(0x100 + i, bytes));
        const bytes = written(sections, out);
        const { got, reader } = reading();
        for (let at = 0; at < bytes.length; at += back) {
          expect(reader.write(bytes, at, Math.min(back, bytes.length - at))).toBeNull();
        }
        expect(reader.complete).toBe(true);
        expect(got).toEqual(sections.map(({ kind, bytes: b }) => ({ kind, bytes: b })));
      }),
    );
  });

  it("is not cut within a section that has room in a piece of its own", () => {
    const sections = [3000, 900, 100, 5000, 4072].map((length, i) =>
      section(0x100 + i, new Uint8Array(length).fill(i)),
    );
    const pieces = piecesOf(sections, 4096, true);
    expect(Buffer.concat(pieces)).toEqual(written(sections));
    const begins = (piece: Buffer | undefined): number => piece?.readUInt16LE(0) ?? -1;
    // The header and two, one and a long one that is cut, its rest, one that just fits, the end.
    expect(pieces.map(({ length }) => length)).toEqual([
      StreamHeader.size + 3000 + 900 + 2 * SectionHead.size,
      4096,
      100 + 5000 + 2 * SectionHead.size - 4096,
      4096,
      StreamEnd.size + SectionHead.size,
    ]);
    expect([1, 3].map((at) => begins(pieces[at]))).toEqual([0x102, 0x104]);
  });

  it("lends a section's memory where it may be sent from there", () => {
    const writer = new StreamWriter();
    writer.begin(header);
    const bytes = new Uint8Array(1000).fill(9);
    const waiting = [{ ...section(0x100, bytes), address: 0x1000 }];
    const lent: Array<[number, number]> = [];
    const sink = {
      bytes: new Uint8Array(4096),
      at: 0,
      lend: (address: number, length: number) => lent.push([address, length]),
    };
    const next = () => waiting.shift() ?? null;
    const first = StreamHeader.size + SectionHead.size;
    expect(writer.read(sink, first, next, true)).toBe(first);
    expect(writer.read(sink, 600, next, true)).toBe(600);
    expect(lent).toEqual([[0x1000, 600]]);
    expect(writer.read(sink, 4096, next, true)).toBe(400 + SectionHead.size + StreamEnd.size);
  });

  it("has nothing for now while PRE_COPY has nothing new, and goes on later", () => {
    const writer = new StreamWriter();
    writer.begin(header);
    const sink = { bytes: new Uint8Array(4096), at: 0, lend: () => {} };
    expect(writer.read(sink, 4096, () => null, false)).toBe(StreamHeader.size);
    expect(writer.read(sink, 4096, () => null, false)).toBe(0);
    expect(writer.read(sink, 4096, () => null, true)).toBe(SectionHead.size + StreamEnd.size);
    expect(writer.read(sink, 4096, () => null, true)).toBe(0);
  });
});

describe("a hostile stream", () => {
  const whole = written(some);

  it("that is cut off at any byte is not complete, and says where it ends", () => {
    for (let length = 0; length < whole.length; length++) {
      const { reader } = reading();
      expect(reader.write(whole, 0, length)).toBeNull();
      expect(reader.complete).toBe(false);
      expect(reader.shortcoming).toMatch(/^the stream ends in (its header|section \d)/);
    }
  });

  it("with any bit flipped behind its header is refused, with the section's number", () => {
    for (let bit = 8 * StreamHeader.size; bit < 8 * whole.length; bit++) {
      const bytes = Uint8Array.from(whole);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      const { reader } = reading();
      expect(reader.write(bytes, 0, bytes.length)).toMatch(/section \d/);
      expect(reader.complete).toBe(false);
    }
  });

  it("names a section by its name when that is known", () => {
    const { reader } = reading(({ kind }) => (kind === 0x101 ? "queue 3 has no depth" : null));
    expect(reader.write(whole, 0, whole.length)).toBe("section 1 (queues): queue 3 has no depth");
    expect(reader.write(whole, 0, 1)).toBe("section 1 (queues): queue 3 has no depth");
  });

  it.each([
    ["reordered", [1, 0, 2, 3]],
    ["with one twice", [0, 1, 1, 2, 3]],
    ["with one left out", [0, 2, 3]],
    ["without its end, and more behind", [0, 1, 2]],
  ])("%s is refused or not complete", (_, order) => {
    const at = [...heads(), whole.length];
    const parts = order.map((i) => whole.subarray(at[i], at[i + 1]));
    const bytes = Buffer.concat([whole.subarray(0, StreamHeader.size), ...parts]);
    const { reader } = reading();
    reader.write(bytes, 0, bytes.length);
    expect(reader.shortcoming).toMatch(/section \d/);
  });

  it("that goes on behind its end is refused", () => {
    const { reader } = reading();
    expect(reader.write(Buffer.concat([whole, Buffer.of(0)]), 0, whole.length + 1)).toBe(
      "the stream goes on behind its end",
    );
  });

  it("of an unknown kind of the envelope's is refused unless it may be left out", () => {
    const { reader } = reading();
    const bytes = written([section(0x33, Uint8Array.of(1))]);
    expect(reader.write(bytes, 0, bytes.length)).toContain("must not be left out");
    const { reader: other, got } = reading();
    const optional = written([section(0x33, Uint8Array.of(1), true)]);
    expect(other.write(optional, 0, optional.length)).toBeNull();
    expect(other.complete).toBe(true);
    expect(got).toEqual([]);
  });

  it("that says its sections are huge makes nobody reserve memory for them", () => {
    const bytes = new Uint8Array(StreamHeader.size + SectionHead.size);
    const head = {
      kind: 0x100,
      version: 1,
      flags: 0,
      reserved: 0,
      number: 0,
      length: sectionBytesMax + 1,
      payloadCheck: 0,
      check: 0,
    };
    const view = new DataView(bytes.buffer);
    SectionHead.set(view, StreamHeader.size, head);
    const checkAt = StreamHeader.size + SectionHead.offset.check;
    view.setUint32(checkAt, crc32(bytes.subarray(StreamHeader.size, checkAt)), true);
    const said: unknown[] = [];
    const sizes = made(() => said.push(reading().reader.write(bytes, 0, bytes.length)));
    expect(said).toEqual([`section 0 has ${sectionBytesMax + 1} bytes`]);
    expect(sizes, "what its own header takes").toEqual([StreamHeader.size]);
  });

  it("of however many sections takes memory for the longest of them, once", () => {
    const lengths = [100, 5000, 3000, ...Array<number>(6).fill(sectionBytesMax), 7];
    const bytes = written(lengths.map((length) => section(0x100, new Uint8Array(length))));
    const piece = 50_000;
    const sizes = made(() => {
      const nothing = { header: () => null, section: () => null, nameOf: String };
      const reader = new StreamReader(nothing);
      for (let at = 0; at < bytes.length; at += piece) {
        reader.write(bytes, at, Math.min(piece, bytes.length - at));
      }
      expect(reader.complete).toBe(true);
    });
    expect(Math.max(...sizes)).toBe(sectionBytesMax);
    expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(2 * sectionBytesMax);
  });
});
