/**
 * What others say in JSON, read by tables: a reader gives the value, without what it does not know,
 * or undefined when it is not of its shape. Nothing here throws.
 */
export type Reader<T> = (value: unknown) => T | undefined;

/** The value that a reader reads. */
export type Read<R> = R extends Reader<infer T> ? T : never;

/** The longest sentence that one side shows the other. */
export const sentenceCharsMax = 1000;

/** Text of at most `max` UTF-16 units without control characters. */
export function text(max: number): Reader<string> {
  return (value) =>
    typeof value === "string" && value.length <= max && !/\p{Cc}/u.test(value) ? value : undefined;
}

/** A whole number from 0 to `max`. */
export function whole(max: number = Number.MAX_SAFE_INTEGER): Reader<number> {
  return (value) =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max
      ? (value as number)
      : undefined;
}

/** A finite number that is not negative: milliseconds. */
export const amount: Reader<number> = (value) =>
  typeof value === "number" && value >= 0 && Number.isFinite(value) ? value : undefined;

export const flag: Reader<boolean> = (value) => (typeof value === "boolean" ? value : undefined);

/** Text that is cut rather than refused, for what is shown to people. */
export const sentence: Reader<string> = (value) =>
  typeof value === "string" ? value.slice(0, sentenceCharsMax).replace(/\p{Cc}/gu, " ") : undefined;

export function oneOf<T extends string>(...words: readonly T[]): Reader<T> {
  return (value) => words.find((word) => word === value);
}

export function either<A, B>(a: Reader<A>, b: Reader<B>): Reader<A | B> {
  return (value) => a(value) ?? b(value);
}

/** `reader`, or `otherwise` for what is not there. */
export function optional<T>(reader: Reader<T>, otherwise: T): Reader<T> {
  return (value) => (value === undefined ? otherwise : reader(value));
}

/** A list of at most `max`. */
export function list<T>(reader: Reader<T>, max: number): Reader<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length > max) return undefined;
    const read = value.map(reader);
    return read.some((each) => each === undefined) ? undefined : (read as T[]);
  };
}

/** An object with names of its own, at most `max` of them. */
export function dictionary<T>(reader: Reader<T>, max: number): Reader<Readonly<Record<string, T>>> {
  const name = text(64);
  return (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    const entries = Object.entries(value);
    if (entries.length > max) return undefined;
    const read = entries.map(([key, each]) => [name(key), reader(each)] as const);
    if (read.some(([key, each]) => key === undefined || each === undefined)) return undefined;
    return Object.fromEntries(read) as Record<string, T>;
  };
}

/** The fields of an object, by name. */
export type Fields = Readonly<Record<string, Reader<unknown>>>;
export type ReadFields<S extends Fields> = { readonly [K in keyof S]: Read<S[K]> };

const fieldOf = (value: object, name: string): unknown =>
  Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;

/** An object with these fields; others are left out. */
export function object<S extends Fields>(fields: S): Reader<ReadFields<S>> {
  return (value) => {
    if (typeof value !== "object" || value === null) return undefined;
    const result: Record<string, unknown> = {};
    for (const [name, reader] of Object.entries(fields)) {
      const read = reader(fieldOf(value, name));
      if (read === undefined) return undefined;
      result[name] = read;
    }
    return result as ReadFields<S>;
  };
}

/** The first of an object's fields that is missing or makes no sense; null when all are right. */
export function misfit(fields: Fields, value: object): string | null {
  const wrong = ([name, reader]: readonly [string, Reader<unknown>]): boolean =>
    reader(fieldOf(value, name)) === undefined;
  return Object.entries(fields).find(wrong)?.[0] ?? null;
}

/** The value of a JSON text, or undefined. */
export function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
