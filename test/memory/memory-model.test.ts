/** Guest memory and its dirty log against models that are too simple to be wrong. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { DirtyLog } from "../../src/memory/dirty-log.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { byMessages, ClientMemory, same } from "./client-memory.ts";

const spaceBytes = 4096;
const fileBytes = 4096;

interface ModelMapping {
  readonly iova: number;
  readonly size: number;
  readonly offset: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Index of the file; -1 is reached by messages. */
  readonly file: number;
}

/** One byte after the other, by a search through everything. */
class ModelMemory {
  readonly mappings: ModelMapping[] = [];
  readonly files = [new Uint8Array(fileBytes), new Uint8Array(fileBytes)];

  map(mapping: ModelMapping): number {
    if (mapping.size === 0) return -errno.EINVAL;
    for (let i = 0; i < mapping.size; i++) {
      if (this.at(mapping.iova + i) !== undefined) return -errno.EEXIST;
    }
    if (mapping.file >= 0 && mapping.offset + mapping.size > fileBytes) return -errno.EINVAL;
    this.mappings.push(mapping);
    return 0;
  }

  unmap(iova: number, size: number): number {
    const place = this.mappings.findIndex((each) => each.iova === iova && each.size === size);
    if (place < 0) return -errno.ENOENT;
    this.mappings.splice(place, 1);
    return 0;
  }

  at(iova: number): ModelMapping | undefined {
    return this.mappings.find((each) => iova >= each.iova && iova < each.iova + each.size);
  }

  check(iova: number, length: number, write: boolean): number {
    let messages = false;
    for (let i = 0; i < length; i++) {
      const mapping = this.at(iova + i);
      if (mapping === undefined) return -errno.EFAULT;
      if (!(write ? mapping.writable : mapping.readable)) return -errno.EACCES;
      messages ||= mapping.file < 0;
    }
    return messages ? -errno.EINPROGRESS : 0;
  }

  byte(iova: number): { file: Uint8Array; at: number } {
    const mapping = this.at(iova) as ModelMapping;
    return {
      file: this.files[mapping.file] as Uint8Array,
      at: mapping.offset + iova - mapping.iova,
    };
  }
}

const place = fc.integer({ min: 0, max: spaceBytes - 1 });
const length = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: spaceBytes }));
const operation = fc.oneof(
  fc.record({
    kind: fc.constant("map" as const),
    iova: fc.integer({ min: 0, max: 31 }).map((n) => n * 128),
    size: fc.integer({ min: 0, max: 8 }).map((n) => n * 128),
    offset: fc.integer({ min: 0, max: fileBytes }),
    readable: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
    writable: fc.integer({ min: 0, max: 9 }).map((n) => n > 1),
    file: fc.constantFrom(0, 0, 0, 1, 1, 1, -1),
    mayMap: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("unmap" as const), which: fc.nat(), wrong: fc.nat(9) }),
  fc.record({ kind: fc.constant("read" as const), iova: place, length }),
  fc.record({ kind: fc.constant("write" as const), iova: place, length, value: fc.nat(255) }),
  fc.record({ kind: fc.constant("resolve" as const), iova: place, length, write: fc.boolean() }),
);

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** The system and its model, side by side. */
class Pair {
  readonly guest = new GuestMemory();
  readonly model = new ModelMemory();
  readonly clients = [ClientMemory.create(fileBytes), ClientMemory.create(fileBytes, 0)];

  apply(step: Operation): void {
    if (step.kind === "map") this.#map(step);
    else if (step.kind === "unmap") this.#unmap(step.which, step.wrong);
    else if (step.kind === "read") this.#read(step.iova, step.length);
    else if (step.kind === "write") this.#write(step.iova, step.length, step.value);
    else this.#resolve(step.iova, step.length, step.write);
  }

  #map(step: Operation & { kind: "map" }): void {
    const { iova, size } = step;
    const client = this.clients[step.file];
    const mapping = client?.mapping(iova, size, step) ?? byMessages(iova, size, step);
    const answer = this.guest.map(mapping);
    expect(answer).toBe(this.model.map(step));
    if (answer < 0 && mapping.fd >= 0) new ClientMemory(mapping.fd).close();
  }

  #unmap(which: number, wrong: number): void {
    const { mappings } = this.model;
    const chosen = mappings[which % Math.max(1, mappings.length)] ?? { iova: 0, size: 128 };
    const size = chosen.size + (wrong === 0 ? 1 : 0);
    expect(this.guest.unmap(chosen.iova, size)).toBe(this.model.unmap(chosen.iova, size));
  }

  #read(iova: number, length: number): void {
    const bytes = new Uint8Array(length + 2);
    const answer = this.model.check(iova, length, false);
    const expected = new Uint8Array(length + 2);
    for (let i = 0; i < length && answer === 0; i++) {
      const { file, at } = this.model.byte(iova + i);
      expected[i + 1] = file[at] as number;
    }
    expect(this.guest.read(iova, bytes, 1, length)).toBe(answer);
    if (answer === 0) expect(same(bytes, expected)).toBe(true);
  }

  #write(iova: number, length: number, value: number): void {
    const bytes = Uint8Array.from({ length: length + 1 }, (_, i) => value + i);
    const answer = this.model.check(iova, length, true);
    for (let i = 0; i < length && answer === 0; i++) {
      const { file, at } = this.model.byte(iova + i);
      file[at] = bytes[i + 1] as number;
    }
    expect(this.guest.write(iova, bytes, 1, length)).toBe(answer);
    this.#compareFiles();
  }

  #resolve(iova: number, length: number, write: boolean): void {
    const cursor = this.guest.resolve(iova, length, write);
    if (cursor === null) return;
    expect(length).toBeGreaterThan(0);
    expect(this.model.check(iova, length, write)).toBe(0);
    const { file, at } = this.model.byte(iova);
    const shown = cursor.bytes.subarray(cursor.at, cursor.at + length);
    expect(same(shown, file.subarray(at, at + length))).toBe(true);
  }

  #compareFiles(): void {
    for (const [i, client] of this.clients.entries()) {
      const expected = this.model.files[i] as Uint8Array;
      expect(same(client.read(0, fileBytes), expected), `file ${i}`).toBe(true);
    }
  }

  close(): void {
    expect(this.guest.mapCount).toBe(this.model.mappings.length);
    this.guest.unmapAll();
    expect(this.guest.fileCount).toBe(0);
    for (const client of this.clients) client.close();
  }
}

describe("guest memory and its model", () => {
  it("answer alike and hold the same bytes", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60, size: "max" }), (steps) => {
        const pair = new Pair();
        try {
          for (const step of steps) pair.apply(step);
        } finally {
          pair.close();
        }
      }),
      { numRuns: 200 },
    );
  });
});

/** Four MiB below a border of the log's chunks, for every page size. */
const base = 2 ** 40 - 2 ** 22;
const logBytes = 2 ** 23;
const logStep = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("mark" as const),
      at: fc.nat(logBytes),
      length: fc.oneof(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 1, max: 2 ** 22 })),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("report" as const),
      at: fc.oneof(
        fc.nat(2 ** 11).map((n) => n * 4096),
        fc.nat(logBytes),
      ),
      length: fc.oneof(
        fc.integer({ min: 1, max: 2 ** 11 }).map((n) => n * 4096),
        fc.integer({ min: 1, max: logBytes }),
      ),
      shift: fc.integer({ min: 10, max: 22 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("forget" as const),
      at: fc.nat(2 ** 11).map((n) => n * 4096),
      length: fc.integer({ min: 1, max: 2 ** 8 }).map((n) => n * 4096),
    }),
  },
);

/** Page numbers in a set. */
class ModelLog {
  readonly #pageSize: number;
  readonly #ranges: ReadonlyArray<{ iova: number; length: number }>;
  readonly #pages = new Set<number>();

  constructor(pageSize: number, ranges: ReadonlyArray<{ iova: number; length: number }>) {
    this.#pageSize = pageSize;
    this.#ranges = ranges;
  }

  mark(iova: number, length: number): void {
    const size = this.#pageSize;
    for (let page = Math.floor(iova / size); page * size < iova + length; page++) {
      const logged = this.#ranges.some(
        (range) => page * size >= range.iova && page * size < range.iova + range.length,
      );
      if (this.#ranges.length === 0 || logged) this.#pages.add(page);
    }
  }

  report(iova: number, length: number, pageSize: number): Uint8Array {
    const count = Math.ceil(length / pageSize);
    const bitmap = new Uint8Array(Math.ceil(count / 64) * 8);
    const size = this.#pageSize;
    for (const page of this.#pages) {
      const start = Math.max(page * size, iova);
      const end = Math.min((page + 1) * size, iova + length);
      if (start >= end) continue;
      const last = Math.floor((end - 1 - iova) / pageSize);
      for (let bit = Math.floor((start - iova) / pageSize); bit <= last; bit++) {
        bitmap[bit >> 3] = (bitmap[bit >> 3] as number) | (1 << (bit & 7));
      }
    }
    this.forget(iova, length);
    return bitmap;
  }

  forget(iova: number, length: number): void {
    const size = this.#pageSize;
    for (const page of this.#pages) {
      if (page * size >= iova && (page + 1) * size <= iova + length) this.#pages.delete(page);
    }
  }
}

describe("the dirty log and its model", () => {
  const pageSizes = fc.integer({ min: 12, max: 17 }).map((shift) => 2 ** shift);
  const ranges = fc.uniqueArray(fc.nat(7), { maxLength: 4 });

  it("report the same pages", () => {
    fc.assert(
      fc.property(
        pageSizes,
        ranges,
        fc.array(logStep, { maxLength: 40, size: "max" }),
        (pageSize, mebibytes, steps) => {
          const logged = mebibytes.map((n) => ({ iova: base + n * 2 ** 20, length: 2 ** 20 }));
          const log = new DirtyLog();
          const model = new ModelLog(pageSize, logged);
          expect(log.start(pageSize, logged)).toBe(0);
          for (const step of steps) {
            const iova = base + step.at;
            if (step.kind === "report") {
              const reported = 2 ** step.shift;
              const bitmap = new Uint8Array(Math.ceil(step.length / reported / 64) * 8);
              const answer = log.report(iova, step.length, reported, bitmap, 0);
              expect(answer).toBe(step.length < reported ? -errno.EINVAL : 0);
              if (answer < 0) continue;
              expect(same(bitmap, model.report(iova, step.length, reported))).toBe(true);
            } else {
              log[step.kind](iova, step.length);
              model[step.kind](iova, step.length);
            }
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
