import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { type Access, type Register, type Registers, registers } from "../../src/base/registers.ts";

/** A bank over the middle of a buffer whose rest must stay as it is. */
function bankOf<const T extends Registers>(
  size: number,
  table: T,
  hooks: Parameters<ReturnType<typeof registers<T>>["bank"]>[2],
) {
  const buffer = new Uint8Array(size + 32).fill(0xee);
  const view = new DataView(buffer.buffer);
  const bank = registers("test", size, table).bank(view, 16, hooks);
  const read = (at: number, count: number) => {
    const bytes = Buffer.alloc(count + 2, 0xdd);
    bank.read(at, bytes, 1, count);
    expect([bytes[0], bytes[count + 1]]).toEqual([0xdd, 0xdd]);
    return bytes.subarray(1, count + 1);
  };
  const write = (at: number, ...bytes: number[]) =>
    bank.write(at, Uint8Array.from(bytes), 0, bytes.length);
  return { bank, buffer, read, write };
}

describe("a register table", () => {
  const ro = { access: "ro", doc: "" } as const;

  it.each<[string, number, Registers]>([
    ["overlaps another register", 8, { A: { at: 0, ...ro }, B: { at: 2, size: 2, ...ro } }],
    ["overlaps another register", 16, { A: { at: 0, count: 3, ...ro }, B: { at: 8, ...ro } }],
    ["is not aligned to 4", 8, { A: { at: 2, ...ro } }],
    ["is not aligned to 8", 16, { A: { at: 4, size: 8, ...ro } }],
    ["ends behind the table's 8 bytes", 8, { A: { at: 8, ...ro } }],
    ["ends behind the table's 8 bytes", 8, { A: { at: 0, count: 3, ...ro } }],
    ["its stride is less than its size", 16, { A: { at: 0, count: 2, stride: 0, ...ro } }],
    ["its stride is not aligned", 16, { A: { at: 0, count: 2, stride: 6, ...ro } }],
    ["does not fit 2 bytes", 8, { A: { at: 0, size: 2, reset: 0x10000, ...ro } }],
    ["does not fit 4 bytes", 8, { A: { at: 0, writable: -1, ...ro } }],
    ["a hook takes at most 4 bytes", 8, { A: { at: 0, size: 8, access: "hook", doc: "" } }],
    ["are no whole words", 6, { A: { at: 0, ...ro } }],
    ["overlaps another field", 8, { A: { at: 0, bits: { a: [3, 0], b: 3 }, ...ro } }],
  ])("does not load when it %s", (message, size, table) => {
    expect(() => registers("bad", size, table)).toThrow(message);
  });

  it("knows offsets, named bits and reset values", () => {
    const table = registers("table", 16, {
      STATE: { at: 4, access: "rw", reset: 5, bits: { busy: 0, queue: [31, 16] }, doc: "state" },
      DATA: { at: 8, size: 8, access: "rw", reset: 2 ** 40 + 1, doc: "data" },
    });
    expect(table.at).toEqual({ STATE: 4, DATA: 8 });
    expect(table.bits.STATE.unpack(0x70001)).toEqual({ busy: true, queue: 7 });
    const bank = table.bank(new DataView(new ArrayBuffer(16)), 0, {});
    expect([bank.get("STATE"), bank.get("DATA")]).toEqual([5, 2 ** 40 + 1]);
    expect(bank.describe()).toEqual([
      { name: "STATE", at: 4, value: "0x00000005", bits: "busy|0x4", doc: "state" },
      { name: "DATA", at: 8, value: "0x0000010000000001", bits: "", doc: "data" },
    ]);
  });

  it("asks for a hook of every hook register, and for no other, when it compiles", () => {
    const table = registers("hooks", 24, {
      BELL: { at: 0, access: "hook", doc: "" },
      WIDE: { at: 8, size: 8, access: "rw", doc: "" },
      PLAIN: { at: 16, access: "w1c", doc: "" },
    });
    const view = new DataView(new ArrayBuffer(24));
    expect(() => {
      // @ts-expect-error BELL has no hook
      table.bank(view, 0, {});
      // @ts-expect-error a hook of a hook register can write
      table.bank(view, 0, { BELL: { read: () => 0 } });
      table.bank(view, 0, { BELL: () => {}, PLAIN: () => {} });
    }).not.toThrow();
    // @ts-expect-error 8 bytes have no hook
    expect(() => table.bank(view, 0, { BELL: () => {}, WIDE: () => {} })).toThrow("WIDE");
    // @ts-expect-error there is no such register
    expect(() => table.bank(view, 0, { BELL: () => {}, BELT: () => {} })).toThrow("BELT");
  });
});

describe("a register bank", () => {
  it("obeys the access classes within the writable bits", () => {
    const { bank, read, write, buffer } = bankOf(
      20,
      {
        RO: { at: 0, access: "ro", reset: 0x11223344, doc: "" },
        RW: { at: 4, access: "rw", writable: 0x00ffff00, reset: 0xaa0000aa, doc: "" },
        W1C: { at: 8, access: "w1c", writable: 0x0000ffff, reset: 0xffffffff, doc: "" },
        WO: { at: 12, access: "wo", doc: "" },
      },
      {},
    );
    const ones = new Uint8Array(20).fill(0x5a);
    bank.write(0, ones, 0, 20);
    expect(bank.get("RO")).toBe(0x11223344);
    expect(bank.get("RW")).toBe(0xaa5a5aaa);
    expect(bank.get("W1C")).toBe(0xffffa5a5);
    expect(bank.get("WO")).toBe(0x5a5a5a5a);
    expect(read(12, 4).readUInt32LE()).toBe(0);
    expect(read(16, 4).readUInt32LE(), "no register there").toBe(0);
    write(6, 0x99);
    expect(bank.get("RW")).toBe(0xaa995aaa);
    expect([...buffer.subarray(0, 16), ...buffer.subarray(36)]).toEqual(Array(32).fill(0xee));
    bank.reset();
    expect(read(0, 12).toString("hex")).toBe("44332211aa0000aaffffffff");
  });

  it("hands a hook whole values, whatever the width of the write", () => {
    const seen: [string, number, number][] = [];
    const { bank, write } = bankOf(
      32,
      {
        WORD: { at: 0, access: "hook", doc: "" },
        HALF: { at: 4, size: 2, access: "hook", doc: "" },
        BYTE: { at: 6, size: 1, access: "hook", writable: 0x0f, doc: "" },
        ROW: { at: 8, count: 3, stride: 8, access: "hook", doc: "" },
        ACK: { at: 12, access: "w1c", reset: 0xff, doc: "" },
      },
      {
        WORD: (value, index) => seen.push(["WORD", value, index]),
        HALF: (value, index) => seen.push(["HALF", value, index]),
        BYTE: (value, index) => seen.push(["BYTE", value, index]),
        ROW: (value, index) => seen.push(["ROW", value, index]),
        ACK: (value, index) => seen.push(["ACK", value, index]),
      },
    );
    const told = () => seen.splice(0).sort();
    write(0, 1, 2, 3, 0x84);
    expect(told()).toEqual([["WORD", 0x84030201, 0]]);
    bank.set("WORD", 0x11223344);
    write(2, 0xee);
    expect(told(), "a narrow write is completed from what is stored").toEqual([
      ["WORD", 0x11ee3344, 0],
    ]);
    expect(bank.get("WORD"), "nothing is stored by itself").toBe(0x11223344);
    bank.set("BYTE", 0xa0);
    write(4, 0xcd, 0xab, 0xff);
    expect(told()).toEqual([
      ["BYTE", 0xaf, 0],
      ["HALF", 0xabcd, 0],
    ]);
    write(14, ...Array(12).fill(0x77));
    expect(told()).toEqual([
      ["ACK", 0xff, 0],
      ["ROW", 0x77777777, 1],
      ["ROW", 0x00007777, 2],
    ]);
    write(6, 0x01);
    expect(told(), "the neighbour in the same word is not touched").toEqual([["BYTE", 0xa1, 0]]);
    write(12, 0x0f);
    expect(told(), "of any other class what is stored then").toEqual([["ACK", 0xf0, 0]]);
    bank.set("WORD", 3);
    bank.reset();
    expect(told(), "no hook is called by us").toEqual([]);
  });

  it("shows what is stored from a register on, as bytes, and calls no hook for them", () => {
    const hook = vi.fn();
    const { bank, write } = bankOf(
      16,
      {
        FIRST: { at: 4, access: "rw", doc: "" },
        NEXT: { at: 8, size: 2, access: "rw", doc: "" },
      },
      { NEXT: hook },
    );
    const stored = bank.stored("FIRST", 6);
    write(4, 1, 2, 3, 4);
    expect([...stored]).toEqual([1, 2, 3, 4, 0, 0]);
    stored.set([5, 6], 4);
    expect(bank.get("NEXT")).toBe(0x0605);
    expect(hook).not.toHaveBeenCalled();
    bank.reset();
    expect([...stored]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("reads and writes a long row at once, as it would word by word", () => {
    const length = 32;
    const row = { at: 8, count: length, access: "rw", doc: "" } as const;
    const table = {
      BEFORE: { at: 4, access: "ro", reset: 0x01020304, doc: "" },
      ROW: row,
      BEHIND: { at: 8 + 4 * length, access: "w1c", reset: 0xff, doc: "" },
    } as const;
    const bytes = 16 + 4 * length;
    // With a hook nothing is done at once.
    const seen = vi.fn();
    const [whole, words] = [bankOf(bytes, table, {}), bankOf(bytes, table, { ROW: seen })];
    const access = fc.record({
      at: fc.nat(bytes - 1),
      content: fc.uint8Array({ minLength: 1, maxLength: bytes }),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 4 }), (accesses) => {
        for (const { at, content } of accesses) {
          const some = [...content.subarray(0, bytes - at)];
          for (const { write } of [whole, words]) write(at, ...some);
          expect(whole.read(at, some.length)).toEqual(words.read(at, some.length));
        }
        expect(whole.buffer).toEqual(words.buffer);
      }),
    );
    expect(seen).toHaveBeenCalled();
  });

  it.each<[string, Partial<Register>]>([
    ["with bits that nothing writes", { writable: 0xff }],
    ["of which nothing is written", { writable: 0 }],
    ["that only its owner writes", { access: "ro" }],
    ["that cannot be read", { access: "wo" }],
    ["with gaps", { stride: 8 }],
    ["of bytes", { size: 1 }],
  ])("treats no row %s as plain", (_, other) => {
    const row = { at: 0, count: 32, access: "rw", doc: "", ...other } as Register;
    const { read, write, buffer } = bankOf(256, { ROW: row }, {});
    const table = registers("rules", 256, { ROW: row }).rules;
    const stored = new Int32Array(64).fill(-1).map((word, i) => word & (table.writable[i] ?? 0));
    write(0, ...new Uint8Array(256).fill(0xff));
    expect(new Int32Array(buffer.buffer, 16, 64)).toEqual(stored);
    const shown = stored.map((word, i) => word & (table.readable[i] ?? 0));
    expect(new Uint8Array(read(0, 256))).toEqual(new Uint8Array(shown.buffer));
  });

  it("asks a read hook for the value, of any part of it", () => {
    let now = 0x01020304;
    const { read, write, bank } = bankOf(
      12,
      {
        CLOCK: { at: 4, access: "ro", doc: "" },
        LEFT: { at: 8, size: 1, access: "hook", doc: "" },
        RIGHT: { at: 9, size: 1, access: "rw", doc: "" },
      },
      { CLOCK: { read: () => now }, LEFT: { read: () => 0x7f, write: () => {} } },
    );
    write(9, 0x33);
    expect(read(4, 4).readUInt32LE()).toBe(0x01020304);
    expect(read(6, 1)[0]).toBe(0x02);
    now = 0xfffffffe;
    expect(read(0, 12).toString("hex")).toBe("00000000feffffff7f330000");
    expect(bank.get("CLOCK"), "the stored value is another matter").toBe(0);
  });

  it("gets and sets rows and all sizes", () => {
    const { bank } = bankOf(
      64,
      {
        A: { at: 0, size: 1, count: 4, access: "rw", doc: "" },
        B: { at: 4, size: 2, count: 2, access: "rw", doc: "" },
        C: { at: 8, count: 2, stride: 16, access: "rw", doc: "" },
        D: { at: 32, size: 8, count: 2, access: "rw", doc: "" },
      },
      {},
    );
    bank.set("A", 0x1ff, 3);
    bank.set("B", 0x1fffe, 1);
    bank.set("C", 0xfffffffd, 1);
    bank.set("D", 2 ** 53 - 1, 1);
    expect([bank.get("A", 3), bank.get("B", 1), bank.get("C", 1), bank.get("D", 1)]).toEqual([
      0xff,
      0xfffe,
      0xfffffffd,
      2 ** 53 - 1,
    ]);
    expect([bank.get("A", 2), bank.get("B"), bank.get("C"), bank.get("D")]).toEqual([0, 0, 0, 0]);
    expect(bank.describe().find(({ name }) => name === "D[1]")?.value).toBe("0x001fffffffffffff");
  });
});

/** Registers laid one behind the other, at their alignment, with gaps. */
const layouts = fc
  .array(
    fc.record({
      size: fc.constantFrom(1, 2, 4, 8),
      gap: fc.nat(3),
      count: fc.integer({ min: 1, max: 3 }),
      access: fc.constantFrom<Access>("ro", "rw", "w1c", "wo"),
      writable: fc.nat(),
      reset: fc.nat(),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((list) => {
    const table: Record<string, Register> = {};
    let end = 0;
    for (const [i, { size, gap, count, access, writable, reset }] of list.entries()) {
      const at = Math.ceil((end + gap) / size) * size;
      const limit = 2 ** (8 * Math.min(size, 4));
      table[`R${i}`] = {
        at,
        size: size as 1,
        count,
        access,
        doc: "",
        reset: reset % limit,
        ...(writable % 3 === 0 ? {} : { writable: writable % limit }),
      };
      end = at + size * count;
    }
    return { table, size: Math.ceil(end / 4) * 4 };
  });

/** The plain meaning: each byte by itself. */
class ByteModel {
  readonly stored: Uint8Array;
  readonly #access: (Access | undefined)[];
  readonly #writable: Uint8Array;

  constructor(table: Registers, size: number) {
    this.stored = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#access = new Array(size).fill(undefined);
    for (const { at, size: bytes = 4, count = 1, access, writable, reset = 0 } of Object.values(
      table,
    )) {
      for (let i = 0; i < bytes * count; i++) {
        const digit = 256 ** (i % bytes);
        this.#access[at + i] = access;
        this.stored[at + i] = Math.floor(reset / digit);
        this.#writable[at + i] = writable === undefined ? 0xff : Math.floor(writable / digit);
      }
    }
  }

  read(at: number): number {
    const access = this.#access[at];
    return access === undefined || access === "wo" ? 0 : (this.stored[at] as number);
  }

  write(at: number, value: number): void {
    const old = this.stored[at] as number;
    const mask = this.#writable[at] as number;
    const access = this.#access[at];
    if (access === "rw" || access === "wo") this.stored[at] = (old & ~mask) | (value & mask);
    if (access === "w1c") this.stored[at] = old & ~(value & mask);
  }
}

describe("a word that is read without effect", () => {
  const bell = { access: "hook", size: 2, doc: "" } as const;
  const four = { A: { at: 0, ...bell }, B: { at: 2, ...bell }, C: { at: 4, ...bell } } as const;
  const gives = { write: () => {}, read: () => 0 };
  const takes = (): void => {};

  it.each([
    ["the first", 0, { A: takes, B: takes, C: takes }],
    ["the first that no hook gives a part of", 4, { A: gives, B: takes, C: takes }],
    ["one without registers", 8, { A: takes, B: gives, C: gives }],
  ])("is %s", (_, offset, hooks) => {
    expect(bankOf(12, four, hooks).bank.quietOffset).toBe(offset);
  });

  it("is nowhere when hooks give all", () => {
    expect(bankOf(8, four, { A: gives, B: takes, C: gives }).bank.quietOffset).toBe(-1);
  });
});

describe("any register bank", () => {
  it("is byte by byte what its table says, for accesses of every width and place", () => {
    const accesses = fc.array(
      fc.record({
        write: fc.boolean(),
        at: fc.nat(),
        bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(layouts, accesses, ({ table, size }, list) => {
        const { read, write, buffer } = bankOf(size, table, {});
        const model = new ByteModel(table, size);
        for (const { write: writes, at: place, bytes } of list) {
          const at = place % size;
          const data = bytes.subarray(0, size - at);
          if (writes) {
            write(at, ...data);
            for (const [i, value] of data.entries()) model.write(at + i, value);
          }
          const expected = Array.from(data, (_, i) => model.read(at + i));
          expect([...read(at, data.length)]).toEqual(expected);
        }
        expect([...buffer.subarray(16, 16 + size)]).toEqual([...model.stored]);
      }),
    );
  });
});
