import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import {
  type BitPosition,
  type Bits,
  bits,
  compiledWord,
  walkedWord,
} from "../../src/base/bits.ts";
import { everyExport, refuseCodeGeneration } from "./tables.ts";

const Mailbox = bits({ command: [7, 0], status: [12, 9], busy: 13, read: 14, queue: [31, 16] });
const word = fc.integer({ min: 0, max: 0xffff_ffff });

type AnyBits = Bits<Record<string, BitPosition>>;

const isBits = (value: unknown): value is AnyBits =>
  typeof value === "object" && value !== null && "unpack" in value;

/** Every word that a document of src/spec declares, by itself or as a register. */
async function everyWord(): Promise<Array<[name: string, at: AnyBits["at"]]>> {
  return (await everyExport()).flatMap(([name, value]) => {
    if (isBits(value)) return [[name, value.at]];
    const { bits: registers = {} } = Object(value) as { bits?: Record<string, AnyBits> };
    return Object.entries(registers).map(([register, { at }]) => [`${name}.${register}`, at]);
  });
}

const words = await everyWord();

describe("named bits of a word", () => {
  it("are unpacked as booleans and numbers", () => {
    expect(Mailbox.unpack(0xfffe_7a42)).toEqual({
      command: 0x42,
      status: 0xd,
      busy: true,
      read: true,
      queue: 0xfffe,
    });
    expect(Mailbox.unpack(0)).toEqual({
      command: 0,
      status: 0,
      busy: false,
      read: false,
      queue: 0,
    });
  });

  it("are packed to where they came from, and nothing else is", () => {
    fc.assert(
      fc.property(word, (value) => {
        expect(Mailbox.pack(Mailbox.unpack(value))).toBe((value & Mailbox.all) >>> 0);
      }),
    );
    expect(Mailbox.pack({ busy: true })).toBe(1 << 13);
    expect(Mailbox.pack({})).toBe(0);
    expect(Mailbox.all).toBe(0xffff_7eff);
  });

  it("have masks that are unsigned, even with the highest bit", () => {
    const Signed = bits({ sign: 31, rest: [30, 0] });
    expect(Signed.mask).toEqual({ sign: 0x8000_0000, rest: 0x7fff_ffff });
    expect(Signed.pack({ sign: true, rest: 1 })).toBe(0x8000_0001);
    const Whole = bits({ whole: [31, 0] });
    expect(Whole.unpack(0xffff_fffe)).toEqual({ whole: 0xffff_fffe });
    expect(Whole.pack({ whole: 0xffff_fffe })).toBe(0xffff_fffe);
  });

  it("are described for people, unknown ones in hex", () => {
    const Flags = bits({ read: 0, write: 1, type: [7, 4] });
    expect(Flags.describe(0)).toBe("none");
    expect(Flags.describe(0b11)).toBe("read|write");
    expect(Flags.describe(0x131)).toBe("read|type=3|0x100");
    expect(Flags.describe(0x8000_0000)).toBe("0x80000000");
  });

  it.each<[string, () => unknown]>([
    ["a value that does not fit", () => Mailbox.pack({ command: 256 })],
    ["a negative value", () => Mailbox.pack({ queue: -1 })],
  ])("refuse %s", (_, pack) => {
    expect(pack).toThrow(AssertionError);
  });

  it.each<[string, () => unknown]>([
    ["overlap", () => bits({ a: [3, 0], b: 3 })],
    ["are the same", () => bits({ a: 5, b: 5 })],
    ["are written the wrong way round", () => bits({ a: [0, 3] })],
    ["lie above bit 31", () => bits({ a: [32, 30] })],
    ["lie below bit 0", () => bits({ a: -1 })],
    ["have a name that is no identifier", () => bits({ "a-b": 0 })],
    ["have a name that is code", () => bits({ "a: 0 }; //": 0 })],
  ])("do not load when they %s", (_, declare) => {
    expect(declare).toThrow(AssertionError);
  });
});

describe("where code generation is switched off", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it("a word is walked, with the same result", () => {
    refuseCodeGeneration();
    expect(() => compiledWord(Mailbox.at)).toThrow(EvalError);
    const walked = bits(Mailbox.at);
    expect(walked.unpack(0xfffe_7a42)).toEqual(Mailbox.unpack(0xfffe_7a42));
    expect(walked.pack({ queue: 0xfffe, busy: true })).toBe(0xfffe_2000);
    expect(() => walked.pack({ command: 256 })).toThrow(AssertionError);
  });
});

describe("the words of the documents", () => {
  const table = fc.constantFrom(...words.map(([, at]) => at));

  it("are found", () => {
    expect(words.length).toBeGreaterThan(80);
    expect(words.map(([name]) => name)).toContain("MailboxHead");
  });

  it.each(words)("%s: the compiled codec is the walked one", (_, at) => {
    const [compiled, walked] = [compiledWord(at), walkedWord(at)];
    fc.assert(
      fc.property(word, (value) => {
        const values = walked.unpack(value);
        expect(compiled.unpack(value)).toEqual(values);
        expect(compiled.pack(values)).toBe(walked.pack(values));
      }),
    );
  });

  it("are packed alike, whatever is left out or does not fit", () => {
    const value = fc.oneof(fc.boolean(), fc.constant(undefined), fc.integer(), word);
    fc.assert(
      fc.property(table, fc.array(value, { minLength: 32, maxLength: 32 }), (at, values) => {
        const names = Object.keys(at);
        const fields = Object.fromEntries(names.map((name, i) => [name, values[i]])) as never;
        const [compiled, walked] = [compiledWord(at), walkedWord(at)].map(({ pack }) => {
          try {
            return pack(fields);
          } catch (thrown) {
            return String(thrown);
          }
        });
        expect(compiled).toBe(walked);
      }),
    );
  });
});
