/** The published known answers of every mode, both ways, over every way to lay the buffers out. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Sec2Engine } from "../../../../src/devices/hisi-acc/sec2/engine.ts";
import type { AlgorithmName } from "../../../../src/spec/hisi-sec2.ts";
import { FakeGuest, finish, type Request, Submission, selections } from "./guest.ts";

interface Vector {
  readonly source: string;
  readonly algorithm: AlgorithmName;
  readonly key: string;
  readonly iv: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  readonly aad?: string;
  readonly trailer?: string;
  readonly authKey?: string;
  readonly tag?: string;
  /** The tag is wrong; there is no plaintext. */
  readonly rejected?: boolean;
}

const folder = new URL("vectors/", import.meta.url);
const files = readdirSync(folder).sort();
const vectorsOf = (file: string): Vector[] =>
  JSON.parse(readFileSync(new URL(file, folder), "utf8"));

const hex = (text: string | undefined): Uint8Array =>
  Uint8Array.from(Buffer.from(text ?? "", "hex"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const okCipher = 0x0101;
const okAead = 0x0181;
const tagMismatch = 0x0185;

/** Segments of uneven lengths that hold `length` bytes and a few more. */
function uneven(length: number, step: number): number[] {
  const segments: number[] = [];
  let left = length;
  for (let size = step; left > 0; size = (size * 7 + 3) % 29) {
    segments.push(Math.min(size, left));
    left -= Math.min(size, left);
  }
  return [...segments, 5];
}

const layouts: Readonly<Record<string, (length: number) => Partial<Request>>> = {
  "flat, in place": () => ({}),
  "flat to flat": () => ({ target: null }),
  "a list, in place": (length) => ({ source: uneven(length, 1) }),
  "list to list": (length) => ({ source: uneven(length, 3), target: uneven(length, 11) }),
  "flat to a list": (length) => ({ target: uneven(length, 4) }),
  "a list to flat": (length) => ({ source: uneven(length, 9), target: null }),
};

const engine = new Sec2Engine();
const guest = new FakeGuest();

function requestOf(vector: Vector, encrypt: boolean): Request {
  const { algorithm, key, iv, aad, trailer, authKey, tag } = vector;
  return {
    algorithm,
    encrypt,
    key: hex(key),
    iv: hex(iv),
    data: hex(encrypt ? vector.plaintext : vector.ciphertext),
    aad: hex(aad),
    trailer: hex(trailer),
    authKey: hex(authKey),
    tagBytes: hex(tag).length,
    ...(encrypt ? {} : { tag: hex(tag) }),
  };
}

function run(vector: Vector, encrypt: boolean, layout: string) {
  guest.reset();
  const request = requestOf(vector, encrypt);
  const { data, aad, trailer } = request;
  const length = data.length + (aad?.length ?? 0) + (trailer?.length ?? 0);
  const more = (layouts[layout] as (length: number) => Partial<Request>)(length);
  const submission = new Submission(guest, { ...request, ...more });
  return finish(engine, guest, submission);
}

describe.each(files)("%s", (file) => {
  const vectors = vectorsOf(file);
  const good = vectors.filter(({ rejected }) => rejected !== true);
  const bad = vectors.filter(({ rejected }) => rejected === true);
  const done = ({ tag }: Vector): number => (tag === undefined ? okCipher : okAead);

  it.each(Object.keys(layouts))("encrypts, %s", (layout) => {
    expect(good.length).toBeGreaterThan(0);
    for (const vector of good) {
      const { doneFlag, error, output, tag } = run(vector, true, layout);
      expect([vector.source, doneFlag, error]).toEqual([vector.source, done(vector), 0]);
      expect([vector.source, text(output)]).toEqual([vector.source, vector.ciphertext]);
      expect([vector.source, text(tag)]).toEqual([vector.source, vector.tag ?? ""]);
    }
  });

  it.each(Object.keys(layouts))("decrypts, %s", (layout) => {
    for (const vector of good) {
      const { doneFlag, error, output } = run(vector, false, layout);
      expect([vector.source, doneFlag, error]).toEqual([vector.source, done(vector), 0]);
      expect([vector.source, text(output)]).toEqual([vector.source, vector.plaintext]);
    }
  });

  it("finds wrong tags and gives out nothing", () => {
    const tampered = good
      .filter(({ tag = "" }) => tag.length > 0)
      .map((vector) => ({ ...vector, tag: text(hex(vector.tag).map((byte) => byte ^ 0x80)) }));
    for (const vector of [...bad, ...tampered]) {
      const { doneFlag, error, output } = run(vector, false, "flat to flat");
      expect([vector.source, doneFlag, error]).toEqual([vector.source, tagMismatch, 0]);
      expect(output.every((byte) => byte === 0)).toBe(true);
    }
  });
});

it("there is a vector for every algorithm", () => {
  const names = new Set(files.flatMap(vectorsOf).map(({ algorithm }) => algorithm));
  expect([...names].sort()).toEqual(Object.keys(selections).sort());
});
