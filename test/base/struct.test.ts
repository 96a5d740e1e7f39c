import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import {
  array,
  type Codec,
  compiledCodec,
  type Field,
  i32,
  readU53,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  u53,
  u64,
  walkedCodec,
  writeU53,
} from "../../src/base/struct.ts";
import { everyExport, refuseCodeGeneration } from "./tables.ts";

type Fields = Record<string, Field<unknown>>;
type AnyStruct = Struct<Fields>;

function isStruct(value: unknown): value is AnyStruct {
  return typeof value === "object" && value !== null && "fields" in value && "offset" in value;
}

/** Every structure that a document of src/spec declares, and one that has every kind of field. */
async function everyStruct(): Promise<AnyStruct[]> {
  const everyKind = struct("every_kind", 64, {
    byte: u8,
    bytes: array(u8, 3),
    signed: i32,
    wide: u64,
    number: u53,
    pair: array(u53, 2),
    shorts: array(u16, 2),
    word: u32,
    last: array(u64, 2),
  });
  const declared = (await everyExport()).map(([, value]) => value).filter(isStruct);
  return [everyKind as unknown as AnyStruct, ...declared];
}

const structs = await everyStruct();
const named = structs.map((each) => [each.name, each] as const);

/** What a codec makes of bytes, and what it makes of that again. */
function roundTrip(codec: Codec<Fields>, size: number, bytes: Uint8Array, at: number) {
  const values = codec.get(new DataView(bytes.buffer, bytes.byteOffset), at);
  const encoded = new Uint8Array(at + size + 8).fill(0x5a);
  codec.set(new DataView(encoded.buffer), at, values);
  return { values, encoded };
}

describe("the structures of the documents", () => {
  it("are found", () => {
    const names = structs.map(({ name }) => name);
    expect(names).toContain("vfio_user_header");
    expect(names).toContain("vfio_region_info");
    expect(names.length).toBeGreaterThan(20);
  });

  it.each(named)("%s: the compiled codec is the walked one", (_, declared) => {
    const { fields, offset, size } = declared;
    const codecs = [walkedCodec(fields, offset), compiledCodec(fields, offset), declared];
    const interesting = fc.constantFrom(0x00, 0xff, 0x7f, 0x80, 0x01);
    const byte = fc.oneof(fc.nat(255), interesting);
    fc.assert(
      fc.property(
        fc.array(byte, { minLength: size, maxLength: size }),
        fc.nat(9),
        (content, at) => {
          const bytes = new Uint8Array(at + size);
          bytes.set(content, at);
          const [walked, ...others] = codecs.map((codec) => roundTrip(codec, size, bytes, at));
          for (const other of others) expect(other).toEqual(walked);
          const untouched = [...(walked?.encoded ?? [])];
          untouched.splice(at, size);
          expect(untouched.every((value) => value === 0x5a)).toBe(true);
        },
      ),
    );
  });

  it.each(named)("%s: what is decoded encodes to the same bytes", (_, declared) => {
    const { fields, offset, size } = declared;
    const wide = Object.entries(fields).filter(([, field]) => field.read === u53.read);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (bytes) => {
        // A number holds 53 bits of 64.
        for (const [name] of wide) bytes.fill(0, (offset[name] as number) + 6, offset[name]! + 8);
        if (declared.name === "every_kind")
          for (const at of [30, 38, 46]) bytes.fill(0, at, at + 2);
        const { encoded } = roundTrip(declared, size, bytes, 0);
        expect(encoded.subarray(0, size)).toEqual(bytes);
      }),
    );
  });

  it.each(named)("%s: an offset is where the field is", (_, declared) => {
    const ends = Object.entries(declared.fields).map(
      ([name, field]) => (declared.offset[name] as number) + field.size,
    );
    expect(Object.values(declared.offset)).toEqual([0, ...ends.slice(0, -1)]);
    expect(ends.at(-1)).toBe(declared.size);
  });
});

describe("a structure that is declared wrongly does not load", () => {
  it.each<[string, () => unknown, RegExp]>([
    ["is shorter than the document says", () => struct("s", 8, { a: u32 }), /cover 4 .* says 8/],
    ["is longer", () => struct("s", 4, { a: u32, b: u16 }), /cover 6 bytes, the document says 4/],
    ["has a field that is not aligned", () => struct("s", 6, { a: u16, b: u32 }), /s\.b: offset 2/],
    [
      "has an array that is not aligned",
      () => struct("s", 12, { a: u32, b: array(u53, 1) }),
      /s\.b/,
    ],
    ["has a name that is no identifier", () => struct("s", 4, { "a-b": u32 }), /not an identifier/],
    ["has a name that is code", () => struct("s", 4, { "a]=1;b": u32 }), /not an identifier/],
  ])("when it %s", (_, declare, message) => {
    expect(declare).toThrow(AssertionError);
    expect(declare).toThrow(message);
  });
});

describe("64 bits as a number", () => {
  const view = new DataView(new ArrayBuffer(8));

  it("are exact below 2^53", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        view.setBigUint64(0, BigInt(value), true);
        expect(readU53(view, 0)).toBe(value);
        view.setBigUint64(0, ~0n, true);
        writeU53(view, 0, value);
        expect(view.getBigUint64(0, true)).toBe(BigInt(value));
      }),
    );
  });

  it("stay at least 2^53 above it, so that every range check refuses them", () => {
    const large = fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(large, (value) => {
        view.setBigUint64(0, value, true);
        expect(readU53(view, 0)).toBeGreaterThanOrEqual(2 ** 53);
        expect(Number.isSafeInteger(readU53(view, 0))).toBe(false);
      }),
    );
  });
});

describe("where code generation is switched off", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it("a structure is walked, with the same result", () => {
    const fields = { a: u16, b: u16, c: u32, d: u53 };
    const compiled = struct("compiled", 16, fields);
    refuseCodeGeneration();
    expect(() => compiledCodec(fields, compiled.offset)).toThrow(EvalError);
    const walked = struct("walked", 16, fields);
    const view = new DataView(Uint8Array.from({ length: 16 }, (_, i) => i % 14).buffer);
    expect(walked.get(view, 0)).toEqual(compiled.get(view, 0));
    expect(walked.get(view, 0)).toMatchObject({ a: 0x0100, b: 0x0302, c: 0x07060504 });
  });

  it("an array of another length than declared is our own mistake", () => {
    const three = struct("three", 12, { a: array(u32, 3) });
    const codec = walkedCodec(three.fields, three.offset);
    const view = new DataView(new ArrayBuffer(12));
    expect(() => codec.set(view, 0, { a: [1, 2] })).toThrow(AssertionError);
  });
});
