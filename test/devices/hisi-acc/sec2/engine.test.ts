/** Requests that are aborted, too long for the device's thread, or not as a driver makes them. */
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { Sec2Engine } from "../../../../src/devices/hisi-acc/sec2/engine.ts";
import {
  type AlgorithmName,
  AuthMacKey,
  Bd3,
  BdParam,
  CIcvKey,
  CModeAlg,
  ErrorType,
  HukIvSeq,
} from "../../../../src/spec/hisi-sec2.ts";
import { SglEntry, SglHeader, sglEntriesMax } from "../../../../src/spec/hisi-sgl.ts";
import {
  FakeGuest,
  finish,
  GuestBuffer,
  InlineCompute,
  type Request,
  Submission,
  selections,
  serve,
  statusOf,
} from "./guest.ts";

const names = Object.keys(selections) as AlgorithmName[];
const keyBytes = (name: AlgorithmName): number =>
  name.includes("des3") ? 24 : name.startsWith("xts") ? 32 : 16;

/** Of a guest with long requests. */
const memoryBytes = 1 << 21;

/** A request of the algorithm that any driver could make. */
function usual(algorithm: AlgorithmName, length = 96): Request {
  const authenc = algorithm.startsWith("authenc");
  const aead = authenc || /^[cg]cm/.test(algorithm);
  const ivBytes = /^[cg]cm/.test(algorithm) ? 12 : algorithm === "cbc(des3_ede)" ? 8 : 16;
  return {
    algorithm,
    encrypt: true,
    key: randomBytes(keyBytes(algorithm)),
    iv: randomBytes(ivBytes),
    data: randomBytes(length),
    ...(aead ? { aad: randomBytes(20), tagBytes: 16 } : {}),
    ...(authenc ? { authKey: randomBytes(32) } : {}),
  };
}

/** The same request the other way, with what the engine made of it. */
function reversed(engine: Sec2Engine, request: Request): Request {
  const guest = new FakeGuest(memoryBytes);
  const { output, tag } = finish(engine, guest, new Submission(guest, request));
  return { ...request, encrypt: false, data: output, tag };
}

/** Runs a request to its end and counts its yields. */
function yieldsOf(running: Generator<void, unknown>): number {
  let yields = 0;
  while (!running.next().done) yields += 1;
  return yields;
}

describe("a request that is aborted", () => {
  it.each(names)("%s has written nothing and runs again, in place", (name) => {
    const engine = new Sec2Engine();
    const short = { ...usual(name), source: [1, 40, 7, 90] };
    const long = { ...usual(name, 524_288), source: [1, 40, 7, 600_000] };
    for (const there of [short, long]) {
      const back = { ...reversed(engine, there), source: [50, 50, 600_000] };
      for (const request of [there, back]) {
        const guest = new FakeGuest(memoryBytes);
        const submission = new Submission(guest, request);
        const before = guest.bytes.slice();
        const start = () => engine.serve(submission.sqe, 0, guest, new InlineCompute());
        guest.yieldsPerRead = 1;
        const yields = yieldsOf(start());
        expect(yields).toBe(guest.reads + (there === long ? 1 : 0));
        for (let stop = 0; stop <= yields; stop++) {
          const running = start();
          for (let i = 0; i < stop; i++) expect(running.next().done).toBe(false);
          if (stop % 2 === 0) running.return(-errno.ECANCELED);
        }
        expect(Buffer.compare(guest.bytes, before)).toBe(0);
        serve(engine, new Submission(guest, usual(name)).sqe, guest);
        const { error, output } = finish(engine, guest, submission);
        const expected = request === there ? back.data : there.data;
        expect([error, Buffer.compare(output, expected)]).toEqual([0, 0]);
      }
    }
  });

  it("leaves other requests alone that are under way at the same time", () => {
    const engine = new Sec2Engine();
    const guest = new FakeGuest();
    guest.yieldsPerRead = 1;
    const submissions = names.map((name) => new Submission(guest, usual(name)));
    const expected = submissions.map(({ request }) => reversed(engine, request).data);
    const running = submissions.map(({ sqe }) => engine.serve(sqe, 0, guest, new InlineCompute()));
    const left = new Set(running.keys());
    while (left.size > 0) {
      for (const index of left) {
        const step = running[index]?.next();
        if (step?.done !== true) continue;
        left.delete(index);
        if (typeof step.value !== "number") guest.apply(step.value);
      }
    }
    for (const [index, submission] of submissions.entries()) {
      expect(Buffer.compare(submission.output(), expected[index] as Uint8Array)).toBe(0);
    }
  });

  it("ends with the errno of guest memory, whichever read fails", () => {
    const engine = new Sec2Engine();
    for (const name of names) {
      const there = { ...usual(name), source: [60, 60, 60], target: [10, 200] };
      for (const request of [there, { ...reversed(engine, there) }]) {
        const guest = new FakeGuest();
        const { sqe } = new Submission(guest, request);
        serve(engine, sqe, guest);
        const { reads } = guest;
        for (let failing = 0; failing < reads; failing++) {
          let count = 0;
          const read: FakeGuest["read"] = function* (...call) {
            return count++ === failing ? -errno.EFAULT : yield* guest.read(...call);
          };
          const reader = { readNow: () => null, read };
          const running = engine.serve(sqe, 0, reader, new InlineCompute());
          let step = running.next();
          while (!step.done) step = running.next();
          expect([name, failing, step.value]).toEqual([name, failing, -errno.EFAULT]);
        }
      }
    }
  });
});

describe("a long request", () => {
  it.each(names)("%s is computed elsewhere with the same result", (name) => {
    const engine = new Sec2Engine();
    const guest = new FakeGuest(1 << 21);
    const compute = new InlineCompute();
    const request = { ...usual(name, 100_000 * 8), target: null };
    const there = new Submission(guest, request);
    for (let times = 0; times < 2; times++) {
      const outcome = serve(engine, there.sqe, guest, compute);
      if (typeof outcome !== "number") guest.apply(outcome);
      expect(statusOf(outcome).error).toBe(0);
    }
    expect(compute.computations).toBe(2);
    const tag = there.tag(guest);
    const output = there.output().slice();
    guest.reset();
    const back = new Submission(guest, { ...request, encrypt: false, data: output, tag });
    expect(Buffer.compare(finish(engine, guest, back).output, request.data)).toBe(0);
    if (tag.length === 0) return;
    guest.bytes[back.macAddress] = (tag[0] as number) ^ 1;
    for (let times = 0; times < 2; times++) {
      expect(statusOf(serve(engine, back.sqe, guest, compute)).doneFlag).toBe(0x0185);
    }
  });

  it("that could not be computed fails alone; one that was given up runs again", () => {
    const engine = new Sec2Engine();
    const guest = new FakeGuest();
    const { sqe } = new Submission(guest, usual("cbc(sm4)", 65_536));
    const compute = new InlineCompute();
    compute.failure = -errno.EIO;
    const failed = serve(engine, sqe, guest, compute);
    expect(statusOf(failed).error).toBe(ErrorType.device);
    compute.failure = -errno.ECANCELED;
    expect(serve(engine, sqe, guest, compute)).toBe(-errno.ECANCELED);
  });
});

type Change = (sqe: DataView, guest: FakeGuest) => void;
const at = Bd3.offset;
const word =
  (offset: number, value: number, keep = 0): Change =>
  (sqe) =>
    sqe.setUint32(offset, ((sqe.getUint32(offset, true) & keep) | value) >>> 0, true);
const bit =
  (mask: number): Change =>
  (sqe) =>
    sqe.setUint32(at.bdParam, (sqe.getUint32(at.bdParam, true) | mask) >>> 0, true);
const half =
  (offset: number, mask: number, value: number): Change =>
  (sqe) =>
    sqe.setUint16(offset, (sqe.getUint16(offset, true) & ~mask) | value, true);
const authWord =
  (mask: number, value: number): Change =>
  (sqe) =>
    sqe.setUint32(at.authMacKey, (sqe.getUint32(at.authMacKey, true) & ~mask) | value, true);
const key = CIcvKey.mask;
const hmac = "authenc(hmac(sha256),cbc(aes))";

/** Each with what is changed in a good descriptor, and what the device must say to it. */
const malformed: ReadonlyArray<readonly [what: string, AlgorithmName, Change, number]> = [
  ["type 2", "cbc(aes)", half(at.bdParam, 0xf, 2), ErrorType.descriptor],
  ["the invalid bit", "cbc(aes)", bit(BdParam.mask.invalid), ErrorType.descriptor],
  ["a scene", "cbc(aes)", bit(1 << 5), ErrorType.descriptor],
  ["a reserved de", "cbc(aes)", bit(2 << 9), ErrorType.descriptor],
  ["a PRP source", "cbc(aes)", bit(2 << 11), ErrorType.addressType],
  ["a PRP target", "cbc(aes)", bit(BdParam.pack({ de: 1, targetType: 2 })), ErrorType.addressType],
  ["a MAC in a list", "gcm(aes)", bit(1 << 17), ErrorType.addressType],
  ["no cipher", "cbc(aes)", half(at.cIcvKey, key.cipher, 0), ErrorType.algorithm],
  ["both directions", "cbc(aes)", half(at.cIcvKey, key.cipher, 3), ErrorType.algorithm],
  ["a generated IV", "cbc(aes)", half(at.cIcvKey, key.ciGen, 4), ErrorType.iv],
  ["a generated auth IV", "gcm(aes)", authWord(AuthMacKey.mask.aiGen, 4), ErrorType.iv],
  ["mode 2", "cbc(aes)", (sqe) => sqe.setUint8(at.cModeAlg, 0x22), ErrorType.algorithm],
  ["algorithm 0", "cbc(aes)", (sqe) => sqe.setUint8(at.cModeAlg, 0x01), ErrorType.algorithm],
  ["ECB with SM4", "cbc(sm4)", (sqe) => sqe.setUint8(at.cModeAlg, 0x30), ErrorType.algorithm],
  ["a small counter", "ctr(aes)", authWord(AuthMacKey.mask.counterMode, 0), ErrorType.algorithm],
  ["an unknown hash", hmac, authWord(AuthMacKey.mask.algorithm, 0x3f << 15), ErrorType.algorithm],
  ["CTR with HMAC", hmac, (sqe) => sqe.setUint8(at.cModeAlg, 0x24), ErrorType.algorithm],
  ["to verify what it makes", hmac, authWord(AuthMacKey.mask.auth, 2), ErrorType.algorithm],
  ["auth 3", hmac, authWord(AuthMacKey.mask.auth, 3), ErrorType.algorithm],
  [
    ...(["MAC, then encrypt", hmac] as const),
    (sqe) => sqe.setUint8(at.hukIvSeq, HukIvSeq.pack({ sequence: 1 })),
    ErrorType.algorithm,
  ],
  ["key length 3", "cbc(aes)", half(at.cIcvKey, key.keyLength, 3 << 13), ErrorType.keyLength],
  ["XTS with 48 bytes", "xts(aes)", half(at.cIcvKey, key.keyLength, 1 << 13), ErrorType.keyLength],
  ["SM4 with 256 bits", "cbc(sm4)", half(at.cIcvKey, key.keyLength, 2 << 13), ErrorType.keyLength],
  ["3DES with 0", "cbc(des3_ede)", half(at.cIcvKey, key.keyLength, 0), ErrorType.keyLength],
  ["no data", "cbc(aes)", word(at.cLenIvin, 0), ErrorType.dataLength],
  ["no data", "ctr(aes)", word(at.cLenIvin, 0), ErrorType.dataLength],
  ["half a block", "cbc(aes)", word(at.cLenIvin, 24), ErrorType.dataLength],
  ["half a block", "ecb(des3_ede)", word(at.cLenIvin, 20), ErrorType.dataLength],
  ["less than a block", "xts(aes)", word(at.cLenIvin, 15), ErrorType.dataLength],
  ["a tag of 17", "gcm(aes)", half(at.cIcvKey, key.icvLength, 17 << 4), ErrorType.macLength],
  ["a tag of 0", "gcm(aes)", half(at.cIcvKey, key.icvLength, 0), ErrorType.macLength],
  ["an odd tag", "ccm(aes)", half(at.cIcvKey, key.icvLength, 5 << 4), ErrorType.macLength],
  ["a long MAC", hmac, authWord(AuthMacKey.mask.macWords, 9 << 4), ErrorType.macLength],
  [
    ...(["no CCM length field", "ccm(aes)"] as const),
    (sqe, guest) => guest.bytes.fill(0, sqe.getUint32(at.cIvinAddr, true)).fill(0, 0, 1),
    ErrorType.iv,
  ],
];

describe("a malformed descriptor", () => {
  it.each(malformed)("%s of %s", (_what, name, change, error) => {
    const engine = new Sec2Engine();
    const guest = new FakeGuest();
    const { sqe } = new Submission(guest, usual(name));
    expect(statusOf(serve(engine, sqe, guest)).error).toBe(0);
    change(sqe, guest);
    const outcome = serve(engine, sqe, guest);
    expect(statusOf(outcome).error).toBe(error);
    expect(outcome).toMatchObject({ writes: [] });
  });

  it("a message that is longer than CCM's length field can say", () => {
    const guest = new FakeGuest();
    const nonce = randomBytes(13);
    const longest = { ...usual("ccm(aes)", 65_535), iv: nonce };
    const engine = new Sec2Engine();
    const submission = new Submission(guest, longest);
    expect(statusOf(serve(engine, submission.sqe, guest)).error).toBe(0);
    submission.sqe.setUint32(at.cLenIvin, 65_536, true);
    expect(statusOf(serve(engine, submission.sqe, guest)).error).toBe(ErrorType.dataLength);
  });

  it("an algorithm that is not offered", () => {
    const engine = new Sec2Engine({ algorithms: ["cbc(aes)"] });
    const guest = new FakeGuest();
    for (const name of names) {
      const { sqe } = new Submission(guest, usual(name));
      const error = name === "cbc(aes)" ? 0 : ErrorType.algorithm;
      expect([name, statusOf(serve(engine, sqe, guest)).error]).toEqual([name, error]);
    }
  });

  it("of whatever bits never throws, and never reads without a bound", () => {
    const engine = new Sec2Engine();
    const guest = new FakeGuest(1 << 16);
    guest.bytes.set(randomBytes(guest.bytes.length));
    const patches = fc.array(fc.tuple(fc.nat(Bd3.size - 1), fc.nat(255)), { maxLength: 12 });
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.boolean(), patches, (name, list, changes) => {
        guest.reset();
        const layout = list ? { source: [30, 90], target: [100, 20] } : {};
        const { sqe } = new Submission(guest, { ...usual(name), ...layout });
        for (const [offset, value] of changes) sqe.setUint8(offset, value);
        guest.reads = 0;
        const outcome = serve(engine, sqe, guest);
        expect(guest.reads).toBeLessThan(2 * 2 + 5 + sglEntriesMax);
        if (typeof outcome === "number") expect(outcome).toBe(-errno.EFAULT);
        else statusOf(outcome);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a hostile list", () => {
  const engine = new Sec2Engine();
  const listed = (source: readonly number[], target?: readonly number[]) => {
    const guest = new FakeGuest();
    const layout = target === undefined ? { source } : { source, target };
    const submission = new Submission(guest, { ...usual("cbc(aes)"), ...layout });
    return { guest, submission, list: submission.source.address };
  };
  const errorOf = (guest: FakeGuest, { sqe }: Submission): number =>
    statusOf(serve(engine, sqe, guest)).error;
  const setCount = (guest: FakeGuest, list: number, count: number): void =>
    guest.view.setUint16(list + SglHeader.offset.entrySumInSgl, count, true);

  it.each([0, sglEntriesMax + 1, 0xffff])("that counts %i entries", (count) => {
    const { guest, submission, list } = listed([96]);
    setCount(guest, list, count);
    expect(errorOf(guest, submission)).toBe(ErrorType.sgl);
  });

  it("with as many entries as there may be", () => {
    const segments = new Array<number>(sglEntriesMax).fill(1);
    const guest = new FakeGuest();
    const request = { ...usual("ctr(aes)", sglEntriesMax), source: segments, target: segments };
    const submission = new Submission(guest, request);
    const { error, output } = finish(engine, guest, submission);
    expect([error, Buffer.compare(output, reversed(engine, request).data)]).toEqual([0, 0]);
  });

  it("with fewer bytes than the request needs, as source and as target", () => {
    const short = listed([96]);
    short.guest.view.setUint32(short.list + SglHeader.size + SglEntry.offset.length, 95, true);
    expect(errorOf(short.guest, short.submission)).toBe(ErrorType.dataLength);
    const target = listed([96], [96]);
    const at = target.submission.target.address + SglHeader.size + SglEntry.offset.length;
    target.guest.view.setUint32(at, 95, true);
    expect(errorOf(target.guest, target.submission)).toBe(ErrorType.dataLength);
  });

  it("whose lengths add up to more than there is memory", () => {
    const { guest, submission, list } = listed([48, 48]);
    const first = list + SglHeader.size + SglEntry.offset.length;
    guest.view.setUint32(first, 0xffffffff, true);
    guest.view.setUint32(first + SglEntry.size, 0xffffffff, true);
    const { error } = finish(engine, guest, submission);
    expect(error).toBe(0);
  });

  it("with empty entries, and one that names itself as the next", () => {
    const { guest, submission, list } = listed([0, 32, 0, 0, 64, 0]);
    guest.view.setUint32(list, list, true);
    expect(errorOf(guest, submission)).toBe(0);
  });

  it("with an address that no memory has", () => {
    const { guest, submission, list } = listed([96]);
    guest.bytes.fill(0xff, list + SglHeader.size, list + SglHeader.size + 8);
    expect(serve(engine, submission.sqe, guest)).toBe(-errno.EFAULT);
  });

  it("is not read when there is nothing to read", () => {
    const guest = new FakeGuest();
    const request = { ...usual("gcm(aes)", 0), aad: new Uint8Array(0) };
    const submission = new Submission(guest, { ...request, source: [1], target: [1] });
    submission.sqe.setUint32(at.dataSrcAddr + 4, 0xffff_ffff, true);
    submission.sqe.setUint32(at.dataDstAddr + 4, 0xffff_ffff, true);
    expect(statusOf(serve(engine, submission.sqe, guest)).doneFlag).toBe(0x0181);
  });
});

describe("the description", () => {
  it("offers what works, in every bitmap", () => {
    const { capabilities, ...rest } = new Sec2Engine().description;
    expect(rest).toEqual({
      ...{ name: "hisi-sec2", deviceId: 0xa256, classCode: 0x100000, sqeBytes: 128, tagAt: 8 },
    });
    expect([capabilities[0x3144], capabilities[0x3148]]).toEqual([0x018670cf, 0x3800]);
    expect(capabilities[0x3124]).toBe(0x7c77);
    expect(Object.keys(capabilities).map(Number)).toEqual(
      Array.from({ length: 20 }, (_, i) => 0x3124 + 4 * i),
    );
  });

  it("offers what it was told to offer", () => {
    const { capabilities } = new Sec2Engine({ algorithms: ["cbc(aes)", hmac] }).description;
    expect([capabilities[0x3144], capabilities[0x3148]]).toEqual([2, 0x1000]);
  });

  it("names the mode and algorithm of a descriptor as the driver does", () => {
    expect(CModeAlg.pack(selections["xts(sm4)"])).toBe(0x37);
    expect(new GuestBuffer(new FakeGuest(), new Uint8Array(3), [1, 2]).content(3)).toHaveLength(3);
  });
});
