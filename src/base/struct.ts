import { assert } from "./assert.ts";
import { compiledOr, identifier } from "./compiled.ts";

/**
 * One kind of field of a wire structure. All integers are little-endian. `read` and `write` are the
 * plain meaning; `readSource` and `writeSource` are the same as JavaScript text, from which a
 * structure's codec is compiled once.
 */
export interface Field<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, at: number): T;
  write(view: DataView, at: number, value: T): void;
  readSource(at: string): string;
  writeSource(at: string, value: string): string;
}

type Fields = Record<string, Field<unknown>>;

/** The object that a structure decodes to: one property a field. */
export type Values<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

/** The decoded shape of a structure: `type Header = Infer<typeof Header>`. */
export type Infer<S> = S extends Struct<infer F> ? Values<F> : never;

/** A packed little-endian structure with checked offsets. Made by {@link struct}. */
export interface Struct<F extends Fields> {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: F;
  /** Byte offset of each field, for hot paths that read a single one through a DataView. */
  readonly offset: { readonly [K in keyof F]: number };
  /** Decodes; the caller has checked that `size` bytes are there. */
  get(view: DataView, at: number): Values<F>;
  /** Encodes every field. */
  set(view: DataView, at: number, values: Values<F>): void;
}

/** A structure's codec, either walked field by field or compiled. */
export interface Codec<F extends Fields> {
  get(view: DataView, at: number): Values<F>;
  set(view: DataView, at: number, values: Values<F>): void;
}

function integer(size: number, getter: string, setter: string): Field<number> {
  const view = DataView.prototype as unknown as Record<string, (...args: unknown[]) => number>;
  const get = view[getter] as (this: DataView, at: number, little: boolean) => number;
  const set = view[setter] as (
    this: DataView,
    at: number,
    value: number,
    little: boolean,
  ) => number;
  return {
    size,
    align: size,
    read: (target, at) => get.call(target, at, true),
    write: (target, at, value) => set.call(target, at, value, true),
    readSource: (at) => `view.${getter}(${at}, true)`,
    writeSource: (at, value) => `view.${setter}(${at}, ${value}, true)`,
  };
}

export const u8: Field<number> = integer(1, "getUint8", "setUint8");
export const u16: Field<number> = integer(2, "getUint16", "setUint16");
export const u32: Field<number> = integer(4, "getUint32", "setUint32");
export const i32: Field<number> = integer(4, "getInt32", "setInt32");

/** A full 64-bit value as a bigint; costs an allocation, so not for hot paths. */
export const u64: Field<bigint> = {
  size: 8,
  align: 8,
  read: (view, at) => view.getBigUint64(at, true),
  write: (view, at, value) => view.setBigUint64(at, value, true),
  readSource: (at) => `view.getBigUint64(${at}, true)`,
  writeSource: (at, value) => `view.setBigUint64(${at}, ${value}, true)`,
};

const twoTo32 = 2 ** 32;

/**
 * Reads 64 bits as a number. Above 2^53 it is rounded but stays above, so every bound refuses it.
 */
export function readU53(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * twoTo32;
}

/** Writes a number below 2^53 as 64 bits. */
export function writeU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % twoTo32, true);
  view.setUint32(at + 4, Math.floor(value / twoTo32), true);
}

/**
 * A 64-bit size, count or address as a number. A peer's value of 2^53 or more is rounded to a
 * number
 * that is still at least 2^53: no limit of ours lies there, so the next range check refuses it.
 */
export const u53: Field<number> = {
  size: 8,
  align: 8,
  read: readU53,
  write: writeU53,
  readSource: (at) => `view.getUint32(${at}, true) + view.getUint32(${at} + 4, true) * ${twoTo32}`,
  writeSource: (at, value) =>
    `view.setUint32(${at}, ${value} % ${twoTo32}, true), ` +
    `view.setUint32(${at} + 4, Math.floor(${value} / ${twoTo32}), true)`,
};

/** `count` fields of one kind in a row, decoded as an array. */
export function array<T>(field: Field<T>, count: number): Field<T[]> {
  const size = field.size * count;
  const indices = Array.from({ length: count }, (_, i) => i);
  return {
    size,
    align: field.align,
    read: (view, at) => indices.map((i) => field.read(view, at + i * field.size)),
    write(view, at, values) {
      assert(values.length === count, `array of ${count} given ${values.length} values`);
      for (let i = 0; i < count; i++) field.write(view, at + i * field.size, values[i] as T);
    },
    readSource: (at) =>
      `[${indices.map((i) => field.readSource(`${at} + ${i * field.size}`)).join(", ")}]`,
    writeSource: (at, value) =>
      indices
        .map((i) => field.writeSource(`${at} + ${i * field.size}`, `${value}[${i}]`))
        .join(", "),
  };
}

/**
 * The plain codec: walks the table at every call. It is the meaning that the compiled one must
 * have.
 */
export function walkedCodec<F extends Fields>(fields: F, offset: Record<string, number>): Codec<F> {
  const entries = Object.entries(fields);
  return {
    get: (view, at) =>
      Object.fromEntries(
        entries.map(([name, field]) => [name, field.read(view, at + (offset[name] as number))]),
      ) as Values<F>,
    set(view, at, values) {
      for (const [name, field] of entries) {
        field.write(view, at + (offset[name] as number), (values as Record<string, unknown>)[name]);
      }
    },
  };
}

/** The table as straight-line code; throws where code generation is off. */
export function compiledCodec<F extends Fields>(
  fields: F,
  offset: Record<string, number>,
): Codec<F> {
  const entries = Object.entries(fields);
  const reads = entries.map(([name, f]) => `${name}: ${f.readSource(`at + ${offset[name]}`)}`);
  const writes = entries.map(([name, f]) =>
    f.writeSource(`at + ${offset[name]}`, `values.${name}`),
  );
  return {
    get: new Function("view", "at", `return { ${reads.join(", ")} };`) as Codec<F>["get"],
    set: new Function("view", "at", "values", `${writes.join("; ")};`) as Codec<F>["set"],
  };
}

/**
 * Declares a structure in its document's order. `size` is the document's own figure: fields that do
 * not add up to it, or that are not naturally aligned, stop the module from loading.
 */
export function struct<const F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  const offset: Record<string, number> = {};
  let end = 0;
  for (const [field, { size: width, align }] of Object.entries(fields)) {
    assert(identifier.test(field), `${name}.${field}: not an identifier`);
    assert(end % align === 0, `${name}.${field}: offset ${end} is not aligned to ${align}`);
    offset[field] = end;
    end += width;
  }
  assert(end === size, `${name}: fields cover ${end} bytes, the document says ${size}`);
  const codec = compiledOr(
    () => compiledCodec(fields, offset),
    () => walkedCodec(fields, offset),
  );
  return { name, size, fields, offset: offset as Struct<F>["offset"], ...codec };
}
