import { assert } from "./assert.ts";
import {
  offsetOf,
  type Register,
  type RegisterRules,
  type Registers,
  type RegisterTable,
  sizeOf,
} from "./registers.ts";
import { readU53, writeU53 } from "./struct.ts";

/**
 * Told of a write, once for each register that it touches. For a `hook` register `value` is what
 * was written, as far as `writable` goes, with the stored bits around it; for any other it is what
 * is stored after the register's rule was applied. `index` counts in a row of registers.
 */
export type WriteHook = (value: number, index: number) => void;

export interface Hook {
  readonly write?: WriteHook;
  /** Gives the value that is read, in place of the stored one. */
  readonly read?: (index: number) => number;
}

type Hookable<T extends Registers, K extends keyof T> = T[K]["size"] extends 8 ? never : K;

/** A hook for every `hook` register; for others, of at most 4 bytes, when the device has one. */
export type Hooks<T extends Registers> = {
  readonly [K in keyof T as T[K]["access"] extends "hook" ? K : never]:
    | WriteHook
    | (Hook & { readonly write: WriteHook });
} & {
  readonly [K in keyof T as T[K]["access"] extends "hook" ? never : Hookable<T, K>]?:
    | WriteHook
    | Hook;
};

/** One register with behaviour, as the word that holds it sees it. */
interface Cell {
  /** The register's bits in the word. */
  readonly lanes: number;
  /** Bits in the word that the hook sees as they were written; the others as they are stored. */
  readonly taken: number;
  readonly shift: number;
  readonly index: number;
  readonly write: WriteHook | undefined;
  readonly read: ((index: number) => number) | undefined;
  /** The next one in the same word. */
  readonly next: Cell | undefined;
}

/** Where a register, or a row of them, is stored in the view. */
interface Slot {
  readonly at: number;
  readonly size: number;
  readonly stride: number;
}

/** A register's value for people. */
export interface RegisterValue {
  readonly name: string;
  /** Byte offset. */
  readonly at: number;
  /** `0x` and all digits. */
  readonly value: string;
  /** The value as named bits, or an empty text. */
  readonly bits: string;
  readonly doc: string;
}

/** Bytes of a row of registers, of which any that are accessed lie together as they are stored. */
interface PlainRow {
  readonly at: number;
  readonly end: number;
}

/** Shorter rows are accessed word by word. */
const rowLengthMin = 32;

const all = -1;

/** The bits of a word that an access to `count` bytes from byte `lane` touches. */
const enabled = (lane: number, count: number): number =>
  count === 4 ? all : ((1 << (8 * count)) - 1) << (8 * lane);

const load = (bytes: Uint8Array, at: number): number =>
  (bytes[at] as number) |
  ((bytes[at + 1] as number) << 8) |
  ((bytes[at + 2] as number) << 16) |
  ((bytes[at + 3] as number) << 24);

function store(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
}

/** Is what is written stored as it is, and read as it is stored, by whatever access? */
const isPlainRow = ({ access, count = 1, size, stride, writable }: Register): boolean =>
  access === "rw" && count >= rowLengthMin && (size ?? stride ?? writable) === undefined;

const nameOf = (name: string, register: Register, index: number): string =>
  register.count === undefined ? name : `${name}[${index}]`;

/**
 * The live registers of a {@link RegisterTable} over a slice of a buffer, which holds all of their
 * state. An access of any width and place is split into words with byte enables, as a bus does:
 * registers see the bytes that are theirs, and a register that spans two words is written in two
 * steps, the low one first. The caller has checked the range.
 */
export class RegisterBank<T extends Registers> {
  readonly table: RegisterTable<T>;
  readonly #view: DataView;
  readonly #at: number;
  readonly #bytes: Uint8Array;
  readonly #rules: RegisterRules;
  readonly #cells: (Cell | undefined)[];
  readonly #slots: ReadonlyMap<string, Slot>;
  readonly #rows: readonly PlainRow[];

  constructor(table: RegisterTable<T>, view: DataView, at: number, hooks: Hooks<T>) {
    assert(at % 4 === 0 && at + table.size <= view.byteLength, `${table.name}: no room at ${at}`);
    this.table = table;
    this.#view = view;
    this.#at = at;
    this.#bytes = new Uint8Array(view.buffer, view.byteOffset + at, table.size);
    this.#rules = table.rules;
    this.#slots = new Map(
      Object.entries<Register>(table.registers).map(([name, register]) => {
        const stride = offsetOf(register, 1) - register.at;
        return [name, { at: at + register.at, size: sizeOf(register), stride }];
      }),
    );
    this.#cells = new Array(table.size >>> 2).fill(undefined);
    for (const [name, hook] of Object.entries<WriteHook | Hook | undefined>(hooks)) {
      const register = table.registers[name];
      assert(register !== undefined, `${table.name}: no register ${name} to hook`);
      assert(sizeOf(register) <= 4, `${table.name}.${name}: a hook takes at most 4 bytes`);
      this.#hook(register, typeof hook === "function" ? { write: hook } : (hook ?? {}));
    }
    this.#rows = Object.entries<Register>(table.registers)
      .filter(([name, register]) => isPlainRow(register) && !(name in hooks))
      .map(([, register]) => ({ at: register.at, end: offsetOf(register, register.count) }));
    this.reset();
  }

  #hook(register: Register, { write, read }: Hook): void {
    const mask = 2 ** (8 * sizeOf(register)) - 1;
    for (let index = 0; index < (register.count ?? 1); index++) {
      const at = offsetOf(register, index);
      const shift = 8 * (at & 3);
      const writable = register.access === "hook" ? (register.writable ?? mask) : 0;
      this.#cells[at >>> 2] = {
        lanes: mask << shift,
        taken: writable << shift,
        shift,
        index,
        write,
        read,
        next: this.#cells[at >>> 2],
      };
    }
  }

  /** The offset of the first word of which no hook gives what is read; -1 for none. */
  get quietOffset(): number {
    const gives = (cell: Cell | undefined): boolean =>
      cell !== undefined && (cell.read !== undefined || gives(cell.next));
    const word = this.#cells.findIndex((cell) => !gives(cell));
    return word < 0 ? word : 4 * word;
  }

  /** Reads `count` bytes at `offset` into `bytes` from `at`. */
  read(offset: number, bytes: Uint8Array, at: number, count: number): void {
    if (count === 4 && (offset & 3) === 0) {
      store(bytes, at, this.#readWord(offset >>> 2, all));
      return;
    }
    if (this.#inRow(offset, count)) {
      bytes.set(this.#bytes.subarray(offset, offset + count), at);
      return;
    }
    for (let done = 0; done < count; ) {
      const lane = (offset + done) & 3;
      const lanes = Math.min(4 - lane, count - done);
      const word = this.#readWord((offset + done) >>> 2, enabled(lane, lanes));
      for (let i = 0; i < lanes; i++) bytes[at + done + i] = word >>> (8 * (lane + i));
      done += lanes;
    }
  }

  /** Writes, likewise. */
  write(offset: number, bytes: Uint8Array, at: number, count: number): void {
    if (count === 4 && (offset & 3) === 0) {
      this.#writeWord(offset >>> 2, load(bytes, at), all);
      return;
    }
    if (this.#inRow(offset, count)) {
      this.#bytes.set(bytes.subarray(at, at + count), offset);
      return;
    }
    for (let done = 0; done < count; ) {
      const lane = (offset + done) & 3;
      const lanes = Math.min(4 - lane, count - done);
      let word = 0;
      for (let i = 0; i < lanes; i++) word |= (bytes[at + done + i] as number) << (8 * (lane + i));
      this.#writeWord((offset + done) >>> 2, word, enabled(lane, lanes));
      done += lanes;
    }
  }

  #inRow(offset: number, count: number): boolean {
    for (const { at, end } of this.#rows) {
      if (offset >= at && offset + count <= end) return true;
    }
    return false;
  }

  #readWord(word: number, enable: number): number {
    let value = this.#view.getInt32(this.#at + 4 * word, true);
    value &= this.#rules.readable[word] as number;
    for (let cell = this.#cells[word]; cell !== undefined; cell = cell.next) {
      if (cell.read === undefined || (cell.lanes & enable) === 0) continue;
      value = (value & ~cell.lanes) | ((cell.read(cell.index) << cell.shift) & cell.lanes);
    }
    return value;
  }

  #writeWord(word: number, value: number, enable: number): void {
    const at = this.#at + 4 * word;
    const writable = (this.#rules.writable[word] as number) & enable;
    const cleared = (this.#rules.clearable[word] as number) & enable & value;
    const old = this.#view.getInt32(at, true);
    this.#view.setInt32(at, ((old & ~writable) | (value & writable)) & ~cleared, true);
    for (let cell = this.#cells[word]; cell !== undefined; cell = cell.next) {
      if (cell.write === undefined || (cell.lanes & enable) === 0) continue;
      const taken = cell.taken & enable;
      const seen = (this.#view.getInt32(at, true) & ~taken) | (value & taken);
      cell.write((seen & cell.lanes) >>> cell.shift, cell.index);
    }
  }

  /** The stored value. Of 8 bytes, above 2^53, it is rounded but stays above (`u53`). */
  get(name: keyof T & string, index = 0): number {
    const slot = this.#slots.get(name) as Slot;
    const at = slot.at + index * slot.stride;
    switch (slot.size) {
      case 1:
        return this.#view.getUint8(at);
      case 2:
        return this.#view.getUint16(at, true);
      case 4:
        return this.#view.getUint32(at, true);
      default:
        return readU53(this.#view, at);
    }
  }

  /** Stores a value, whatever the access class, and calls no hook. Excess high bits are cut off. */
  set(name: keyof T & string, value: number, index = 0): void {
    const slot = this.#slots.get(name) as Slot;
    const at = slot.at + index * slot.stride;
    switch (slot.size) {
      case 1:
        this.#view.setUint8(at, value);
        break;
      case 2:
        this.#view.setUint16(at, value, true);
        break;
      case 4:
        this.#view.setUint32(at, value, true);
        break;
      default:
        writeU53(this.#view, at, value);
    }
  }

  /** The stored bytes from a register on, as they change; storing there calls no hook. */
  stored(name: keyof T & string, length: number): Uint8Array {
    const at = this.table.at[name];
    return this.#bytes.subarray(at, at + length);
  }

  /** All registers to their reset values; no hook is called. */
  reset(): void {
    this.#bytes.set(this.#rules.reset);
  }

  /** Every register as it is stored, in the table's order. */
  describe(): RegisterValue[] {
    return Object.entries<Register>(this.table.registers).flatMap(([name, register]) =>
      Array.from({ length: register.count ?? 1 }, (_, index) =>
        this.#describe(name, register, index),
      ),
    );
  }

  #describe(name: string, register: Register, index: number): RegisterValue {
    const at = offsetOf(register, index);
    const size = sizeOf(register);
    let digits = "";
    for (let byte = 0; byte < size; byte++) {
      digits =
        this.#view
          .getUint8(this.#at + at + byte)
          .toString(16)
          .padStart(2, "0") + digits;
    }
    const named = (this.table.bits as Record<string, { describe(word: number): string }>)[name];
    return {
      name: nameOf(name, register, index),
      at,
      value: `0x${digits}`,
      bits: named?.describe(this.get(name, index)) ?? "",
      doc: register.doc,
    };
  }
}
