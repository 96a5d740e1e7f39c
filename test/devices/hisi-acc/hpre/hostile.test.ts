/** HPRE against guests that ask for nonsense, and against memory that goes away. */
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import {
  curve25519,
  HpreAlgorithm,
  HpreError,
  HpreQueue,
  type PrimeCurve,
  primeCurves,
} from "../../../../src/spec/hisi-hpre.ts";
import { serve } from "../compute/recording-compute.ts";
import { type HpreAsk, HpreDriver } from "./driver.ts";
import { basePoints, rsaVector } from "./vectors.ts";

const { rsa, rsaCrt, dh, dhG2, eccMultiply, x25519 } = HpreAlgorithm;
const number = (hex: string): bigint => BigInt(`0x${hex}`);
const p256 = primeCurves[1] as PrimeCurve;
const baseX = number(basePoints.prime256v1.x);
const baseY = number(basePoints.prime256v1.y);
const beyond = 2 ** 52;

let driver: HpreDriver;
beforeEach(() => {
  driver = new HpreDriver();
});

function expectRefusal(ask: HpreAsk, error: HpreError): void {
  expect(driver.run(ask)).toMatchObject({ error, written: false });
}

describe("moduli", () => {
  const full = 2n ** 1024n - 1n;

  it.each([
    ["zero", 0n],
    ["one", 1n],
    ["two", 2n],
    ["even and as long as can be", full - 1n],
  ])("%s is refused", (_, modulus) => {
    for (const exponent of [0n, 1n, 65_537n, full]) {
      const key = [exponent, modulus];
      expectRefusal({ algorithm: rsa, size: 128, key, input: [0n] }, HpreError.modulus);
      expectRefusal({ algorithm: dh, size: 128, key, input: [1n] }, HpreError.modulus);
      expectRefusal({ algorithm: dhG2, size: 128, key }, HpreError.modulus);
      const half = 2n ** 512n - 1n;
      for (const [p, q] of [
        [modulus & half & ~1n, half],
        [half, modulus & half & ~1n],
      ] as const) {
        const crt = [1n, 1n, q, p, 1n];
        expectRefusal({ algorithm: rsaCrt, size: 128, key: crt, input: [1n] }, HpreError.modulus);
      }
    }
  });

  it("an operand that is not less than the modulus is refused", () => {
    for (const operand of [5n, 6n, full]) {
      const ask = { size: 128, key: [3n, 5n], input: [operand] };
      expectRefusal({ algorithm: rsa, ...ask }, HpreError.operand);
      expectRefusal({ algorithm: dh, ...ask }, HpreError.operand);
    }
    const crt = { algorithm: rsaCrt, size: 128, key: [1n, 1n, 5n, 3n, 2n] };
    expectRefusal({ ...crt, input: [15n] }, HpreError.operand);
    expect(driver.run({ ...crt, input: [14n] })).toMatchObject({ error: 0, output: [14n] });
  });

  it("tiny odd moduli give right results, whatever the exponent", () => {
    for (const exponent of [0n, 1n, full]) {
      const ask = { algorithm: rsa, size: 128, key: [exponent, 3n], input: [2n] };
      const expected = exponent % 2n === 0n ? 1n : 2n;
      expect(driver.run(ask)).toMatchObject({ error: 0, output: [expected] });
    }
  });

  it("a CRT key whose p and q are the same, or whose inverse is none, gives something", () => {
    const { p, dp } = rsaVector;
    const key = [number(dp), number(dp), number(p), number(p), 0n];
    const answer = driver.run({ algorithm: rsaCrt, size: 128, key, input: [7n] });
    expect(answer.error).toBe(0);
    expect(answer.output[0]).toBeLessThan(number(p));
  });
});

describe("curves, points and scalars", () => {
  const ask = (key: readonly bigint[], input: readonly bigint[]): HpreAsk => ({
    ...{ algorithm: eccMultiply, size: 32, key, input, outputs: 2 },
  });
  const { p, a, b, n } = p256;

  it.each([
    ["no curve", [0n, 0n, 5n, 0n]],
    ["another b", [p, a, 5n, b + 1n]],
    ["another a", [p, 0n, 5n, b]],
    ["another p", [p - 2n, a, 5n, b]],
    [
      "p and a of P-192 with the b of P-256",
      [primeCurves[0]?.p ?? 0n, primeCurves[0]?.a ?? 0n, 5n, b],
    ],
  ])("%s is refused", (_, key) => {
    expectRefusal(ask(key, [baseX, baseY]), HpreError.curve);
  });

  it.each([
    ["the point at infinity, as drivers write it", [0n, 0n]],
    ["a point beside the curve", [baseX, baseY + 1n]],
    ["a point of the curve's twist", [baseX + 1n, baseY]],
    ["coordinates above p", [p, 0n]],
    ["the same point with p added", [baseX, baseY + p]],
    ["all ones", [2n ** 256n - 1n, 2n ** 256n - 1n]],
  ])("%s is refused", (_, point) => {
    const fitting = point.map((each) => each % 2n ** 256n);
    for (const scalar of [0n, 1n, 2n, n - 1n]) {
      expectRefusal(ask([p, a, scalar, b], fitting), HpreError.point);
    }
  });

  it("a scalar that leads to the point at infinity is refused", () => {
    for (const scalar of [0n, n]) {
      expectRefusal(ask([p, a, scalar, b], [baseX, baseY]), HpreError.scalar);
    }
  });

  it("points of small order of Curve25519 are refused", () => {
    const small = [
      0n,
      1n,
      325606250916557431795983626356110631294008115727848805560023387167927233504n,
      39382357235489614581723060781553021112529911719440698176882885853963445705823n,
      curve25519.p - 1n,
      curve25519.p,
      curve25519.p + 1n,
    ];
    const key = [curve25519.p, curve25519.a24, 2n ** 254n + 8n];
    for (const u of small) {
      expectRefusal({ algorithm: x25519, size: 32, key, input: [u] }, HpreError.point);
    }
  });

  it("parameters that are not Curve25519's are refused", () => {
    for (const key of [
      [curve25519.p, 486_662n, 8n],
      [curve25519.p + 2n, curve25519.a24, 8n],
      [0n, 0n, 0n],
    ]) {
      expectRefusal({ algorithm: x25519, size: 32, key, input: [9n] }, HpreError.curve);
    }
  });
});

describe("entries", () => {
  it("algorithms that are none, or of another kind of queue, are refused", () => {
    for (let algorithm = 0; algorithm < 32; algorithm++) {
      for (const queue of [HpreQueue.rsaAndDh, HpreQueue.ecc, 7]) {
        const sqe = driver.submit({ algorithm, size: 128, key: [1n, 3n], input: [1n] });
        const outcome = serve(driver.engine, sqe, queue, driver.guest, driver.compute);
        const isEcc = algorithm === eccMultiply || algorithm === x25519;
        const known = isEcc || Object.values(HpreAlgorithm).includes(algorithm as never);
        const fits = known && queue === (isEcc ? HpreQueue.ecc : HpreQueue.rsaAndDh);
        const { error } = driver.complete(sqe, outcome);
        if (!fits) expect(error).toBe(HpreError.algorithm);
        else expect(error).not.toBe(HpreError.algorithm);
      }
    }
  });

  it("lengths that the algorithm does not have are refused before anything is read", () => {
    const accepted = { [rsa]: [128, 256, 384, 512], [x25519]: [32], [eccMultiply]: [32, 48] };
    for (const [algorithm, sizes] of Object.entries(accepted)) {
      for (let taskLen1 = 0; taskLen1 < 256; taskLen1++) {
        if (sizes.includes(8 * (taskLen1 + 1))) continue;
        const ask = { algorithm: Number(algorithm), size: 512, key: [1n, 3n], lies: { taskLen1 } };
        const { reads } = driver.guest;
        expectRefusal(ask, HpreError.length);
        expect(driver.guest.reads).toBe(reads);
      }
    }
  });

  it("memory that is not there ends the request with its errno", () => {
    for (const lies of [{ keyAddr: beyond }, { inAddr: beyond }]) {
      const sqe = driver.submit({ algorithm: rsa, size: 512, key: [3n, 7n], input: [1n], lies });
      expect(driver.serve(sqe)).toBe(-errno.EFAULT);
    }
  });

  it("the input of DH with g = 2 is never read", () => {
    const ask = { algorithm: dhG2, size: 96, key: [10n, 1025n], lies: { inAddr: beyond } };
    expect(driver.run(ask)).toMatchObject({ error: 0, output: [1024n] });
  });

  it("a computation that could not be carried out is an error", () => {
    driver.compute.failure = -errno.EIO;
    const ask = { algorithm: rsa, size: 128, key: [3n, 7n], input: [1n] };
    expectRefusal(ask, HpreError.unavailable);
  });

  it("any entry and any numbers give an answer", () => {
    const algorithm = fc.constantFrom(...Object.values(HpreAlgorithm), 2, 31);
    const length = fc.constantFrom(3, 5, 11, 15, 31);
    const property = fc.property(algorithm, length, fc.boolean(), (code, taskLen1, zeros) => {
      const sqe = driver.submit({ algorithm: code, size: 256, key: [], lies: { taskLen1 } });
      const noise = randomBytes(2048);
      if (zeros) noise.fill(0, 0, 1600);
      driver.guest.bytes.set(noise, 64);
      const answer = driver.complete(sqe, driver.serve(sqe));
      expect(Object.values(HpreError)).toContain(answer.error);
    });
    fc.assert(property, { numRuns: 200 });
  });
});

describe("a request that is aborted", () => {
  it.each([
    ["RSA", { algorithm: rsa, size: 128, key: [3n, number(rsaVector.n)], input: [5n] }, [125n]],
    [
      "ECDH",
      {
        ...{ algorithm: eccMultiply, size: 32, outputs: 2, input: [baseX, baseY] },
        key: [p256.p, p256.a, p256.n - 1n, p256.b],
      },
      [baseX, p256.p - baseY],
    ],
  ])("%s, at any yield, in place, runs again", (_, ask, expected) => {
    driver.guest.yieldsPerRead = 2;
    const sqe = driver.submit({ ...ask, inPlace: true });
    const before = driver.guest.bytes.slice();
    let aborted = 0;
    let outcome = driver.serve(sqe, aborted);
    for (; outcome === null; aborted++) {
      expect(Buffer.compare(driver.guest.bytes, before)).toBe(0);
      outcome = driver.serve(sqe, aborted);
    }
    expect(aborted).toBeGreaterThan(4);
    expect(driver.complete(sqe, outcome)).toMatchObject({ error: 0, output: expected });
  });
});
