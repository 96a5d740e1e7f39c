/** HPRE as its drivers use it: published vectors, and against node:crypto and plain arithmetic. */
import {
  constants,
  createDiffieHellman,
  createECDH,
  generateKeyPairSync,
  getDiffieHellman,
  privateDecrypt,
  randomBytes,
} from "node:crypto";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { inlineCostMax } from "../../../../src/devices/hisi-acc/compute.ts";
import { HpreEngine } from "../../../../src/devices/hisi-acc/hpre/engine.ts";
import {
  curve25519,
  HpreAlgorithm,
  hpreNumberBytes,
  type PrimeCurve,
  primeCurves,
} from "../../../../src/spec/hisi-hpre.ts";
import { HpreDriver } from "./driver.ts";
import {
  basePoints,
  dhVector,
  ecdhVectors,
  rsaVector,
  x25519Agreement,
  x25519Iterations,
  x25519Vectors,
} from "./vectors.ts";

const { rsa, rsaCrt, dh, dhG2, x25519 } = HpreAlgorithm;
const number = (hex: string): bigint => BigInt(`0x${hex}`);
const ofBytes = (bytes: Uint8Array): bigint => number(Buffer.from(bytes).toString("hex"));
/** The number whose little-endian bytes are these. */
const little = (hex: string): bigint => ofBytes(Buffer.from(hex, "hex").reverse());
const random = (bytes: number): bigint => ofBytes(randomBytes(bytes));
const odd = (bytes: number): bigint => random(bytes) | 1n | (1n << BigInt(8 * bytes - 1));
const curveOf = (name: string): PrimeCurve =>
  primeCurves.find((curve) => curve.name === name) as PrimeCurve;

/** Square and multiply, to compare with. */
function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n % modulus;
  for (const bit of exponent.toString(2)) {
    result = (result * result) % modulus;
    if (bit === "1") result = (result * base) % modulus;
  }
  return result;
}

let driver: HpreDriver;
beforeEach(() => {
  driver = new HpreDriver();
});

/** Runs a request that has to succeed and gives its first number. */
function solve(algorithm: number, size: number, key: bigint[], input?: bigint): bigint {
  const { error, output } = driver.run({
    ...{ algorithm, size, key },
    ...(input === undefined ? {} : { input: [input] }),
  });
  expect(error).toBe(0);
  return output[0] as bigint;
}

describe("the device", () => {
  it("is the VF that the driver looks for", () => {
    const { description } = new HpreEngine();
    expect(description).toMatchObject({ name: "hisi-hpre", deviceId: 0xa259, sqeBytes: 64 });
    expect(description.classCode).toBe(0x100000);
    const rsaDhEcdhAndCurve25519 = 0x27;
    expect(description.capabilities[0x3144]).toBe(rsaDhEcdhAndCurve25519);
    expect(Object.keys(description.capabilities)).toHaveLength(20);
  });
});

describe("RSA", () => {
  const { n, e, d, p, q, dp, dq, qInv } = rsaVector;
  const [padded, encrypted] = [number(rsaVector.padded), number(rsaVector.encrypted)];

  it("the published key encrypts and decrypts, with CRT and without", () => {
    const crt = [dq, dp, q, p, qInv].map(number);
    expect(solve(rsa, 128, [number(e), number(n)], padded)).toBe(encrypted);
    expect(solve(rsa, 128, [number(d), number(n)], encrypted)).toBe(padded);
    expect(solve(rsaCrt, 128, crt, encrypted)).toBe(padded);
  });

  it("a key of node:crypto's gives what node:crypto gives", () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const jwk = privateKey.export({ format: "jwk" }) as Record<string, string>;
    const part = (name: string) => ofBytes(Buffer.from(jwk[name] as string, "base64url"));
    const message = randomBytes(256);
    message[0] = 0;
    const key = { key: privateKey, padding: constants.RSA_NO_PADDING };
    const expected = ofBytes(privateDecrypt(key, message));
    const crt = [part("dq"), part("dp"), part("q"), part("p"), part("qi")];
    expect(solve(rsaCrt, 256, crt, ofBytes(message))).toBe(expected);
    expect(solve(rsa, 256, [part("d"), part("n")], ofBytes(message))).toBe(expected);
    expect(solve(rsa, 256, [part("e"), part("n")], expected)).toBe(ofBytes(message));
  });

  it.each(hpreNumberBytes.rsa)("numbers of %i bytes are powers", (size) => {
    for (const exponent of [1n, 2n, 65_537n, random(9), random(size)]) {
      const [modulus, message] = [odd(size), random(size - 1)];
      const expected = power(message, exponent, modulus);
      expect(solve(rsa, size, [exponent, modulus], message)).toBe(expected);
    }
  });

  it.each(hpreNumberBytes.rsa)("halves of %i bytes are put together", (size) => {
    const [first, second] = [odd(size / 2), odd(size / 2)];
    const [dq1, dp1, message] = [random(size / 2), random(size / 2), random(size - 2)];
    const m1 = power(message % first, dp1, first);
    const m2 = power(message % second, dq1, second);
    const inverseOfSecond = random(size / 2);
    const h = ((((m1 - m2) * inverseOfSecond) % first) + first) % first;
    const key = [dq1, dp1, second, first, inverseOfSecond];
    expect(solve(rsaCrt, size, key, message)).toBe(m2 + second * h);
  });
});

describe("Diffie-Hellman", () => {
  const { p, g, secretA, publicA, secretB, publicB, shared } = dhVector;

  it("the published keys agree", () => {
    const run = (secret: string, base: string) =>
      solve(dh, 128, [number(secret), number(p)], number(base));
    expect(run(secretA, g)).toBe(number(publicA));
    expect(run(secretB, g)).toBe(number(publicB));
    expect(run(secretA, publicB)).toBe(number(shared));
    expect(run(secretB, publicA)).toBe(number(shared));
  });

  it.each([
    ["modp1", 96],
    ["modp2", 128],
    ["modp5", 192],
    ["modp14", 256],
    ["modp15", 384],
    ["modp16", 512],
  ] as const)("%s agrees with node:crypto", (group, size) => {
    const named = getDiffieHellman(group);
    named.generateKeys();
    const [secret, prime] = [named.getPrivateKey(), named.getPrime()].map(ofBytes);
    const key = [secret as bigint, prime as bigint];
    expect(solve(dhG2, size, key)).toBe(ofBytes(named.getPublicKey()));
    expect(solve(dh, size, key, 2n)).toBe(ofBytes(named.getPublicKey()));
    const peer = getDiffieHellman(group);
    const theirs = ofBytes(peer.generateKeys());
    expect(solve(dh, size, key, theirs)).toBe(ofBytes(named.computeSecret(peer.getPublicKey())));
  });

  it("takes any base and exponent that are no mistake", () => {
    const modulus = ofBytes(createDiffieHellman(getDiffieHellman("modp1").getPrime()).getPrime());
    const edge = fc.constantFrom(0n, 1n, 2n, modulus - 1n, modulus - 2n, modulus / 2n);
    const any = fc.oneof(edge, fc.bigInt({ min: 0n, max: modulus - 1n }));
    const exponents = fc.oneof(edge, any, fc.constantFrom(modulus, 2n ** 768n - 1n));
    const property = fc.property(any, exponents, (base, exponent) => {
      const expected = power(base, exponent, modulus);
      expect(solve(dh, 96, [exponent, modulus], base)).toBe(expected);
    });
    fc.assert(property, { numRuns: 40 });
  });

  it("takes any odd modulus, a short one too", () => {
    const bits = fc.integer({ min: 2, max: 768 });
    const property = fc.property(bits, fc.nat(), fc.nat(), (length, noise, exponent) => {
      const modulus = (random(96) % (1n << BigInt(length))) | 1n | (1n << BigInt(length - 1));
      const base = BigInt(noise) % modulus;
      const expected = power(base, BigInt(exponent), modulus);
      expect(solve(dh, 96, [BigInt(exponent), modulus], base)).toBe(expected);
    });
    fc.assert(property, { numRuns: 60 });
  });
});

describe("ECDH", () => {
  it.each(ecdhVectors)("the published keys of $curve agree", (vector) => {
    const curve = curveOf(vector.curve);
    const base = basePoints[vector.curve];
    const scalar = number(vector.scalar);
    const own = driver.multiply(curve, scalar, number(base.x), number(base.y));
    expect(own.error).toBe(0);
    expect(own.output).toEqual([number(vector.publicX), number(vector.publicY)]);
    const agreed = driver.multiply(curve, scalar, number(vector.peerX), number(vector.peerY));
    expect(agreed.error).toBe(0);
    expect(agreed.output[0]).toBe(number(vector.sharedX));
  });

  it.each(primeCurves)("products on $name are those of node:crypto, both coordinates", (curve) => {
    const base = basePoints[curve.name as keyof typeof basePoints];
    const [x, y] = [number(base.x), number(base.y)];
    const coordinates = (key: Buffer) => [
      ofBytes(key.subarray(1, 1 + curve.bytes)),
      ofBytes(key.subarray(1 + curve.bytes)),
    ];
    for (let round = 0; round < 5; round++) {
      const [mine, theirs] = [createECDH(curve.name), createECDH(curve.name)];
      const [publicX, publicY] = coordinates(theirs.generateKeys()) as [bigint, bigint];
      const own = coordinates(mine.generateKeys());
      const scalar = ofBytes(mine.getPrivateKey());
      expect(driver.multiply(curve, scalar, x, y).output).toEqual(own);
      const agreed = driver.multiply(curve, scalar, publicX, publicY);
      expect(agreed.output[0]).toBe(ofBytes(mine.computeSecret(theirs.getPublicKey())));
      const other = driver.multiply(curve, ofBytes(theirs.getPrivateKey()), ...pair(own));
      expect(other.output).toEqual(agreed.output);
    }
  });

  const pair = (numbers: readonly bigint[]) => numbers as [bigint, bigint];

  it.each(primeCurves)("the ends of the scalars of $name", (curve) => {
    const base = basePoints[curve.name as keyof typeof basePoints];
    const [x, y] = [number(base.x), number(base.y)];
    const times = (scalar: bigint) => driver.multiply(curve, scalar, x, y).output;
    expect(times(1n)).toEqual([x, y]);
    expect(times(curve.n - 1n)).toEqual([x, curve.p - y]);
    expect(times(curve.n + 1n)).toEqual([x, y]);
    const [doubleX, doubleY] = pair(times(2n));
    expect(times(curve.n - 2n)).toEqual([doubleX, curve.p - doubleY]);
    expect(driver.multiply(curve, 2n, doubleX, doubleY).output).toEqual(times(4n));
    expect(times(curve.n + 4n)).toEqual(times(4n));
  });
});

describe("X25519", () => {
  const { p, a24 } = curve25519;
  const times = (scalar: bigint, u: bigint) => solve(x25519, 32, [p, a24, scalar], u);

  it.each(x25519Vectors)("the published product of $scalar", ({ scalar, u, product }) => {
    expect(times(little(scalar), little(u))).toBe(little(product));
  });

  it("the published iterations", () => {
    let [k, u] = [9n, 9n];
    for (let i = 1; i <= 1000; i++) {
      [k, u] = [times(k, u), k];
      if (i === 1) expect(k).toBe(little(x25519Iterations[1]));
    }
    expect(k).toBe(little(x25519Iterations[1000]));
  });

  it("keys agree", () => {
    const [alice, bob] = [little(x25519Agreement.alice), random(32)];
    expect(times(alice, times(bob, 9n))).toBe(times(bob, times(alice, 9n)));
  });
});

describe("costs", () => {
  const costOf = (algorithm: number, size: number, key: bigint[], input: bigint[] = [5n]) => {
    driver.compute.failure = -1;
    driver.run({ algorithm, size, key, input });
    return driver.compute.costs.at(-1) as number;
  };

  it("short operations are done on the spot, long ones are not", () => {
    const full = (bytes: number) => 2n ** BigInt(8 * bytes) - 1n;
    const crt = (size: number) => Array<bigint>(5).fill(full(size / 2));
    expect(costOf(rsa, 512, [65_537n, full(512)])).toBeLessThan(inlineCostMax);
    expect(costOf(rsaCrt, 256, crt(256))).toBeLessThan(inlineCostMax);
    expect(costOf(rsaCrt, 512, crt(512))).toBeGreaterThan(inlineCostMax);
    expect(costOf(rsa, 512, [full(512) - 2n, full(512)])).toBeGreaterThan(4 * inlineCostMax);
    expect(costOf(dh, 512, [full(512), full(512)])).toBeGreaterThan(4 * inlineCostMax);
    const { p, a24 } = curve25519;
    expect(costOf(x25519, 32, [p, a24, 1n])).toBeLessThan(inlineCostMax);
    expect(costOf(HpreAlgorithm.eccMultiply, 48, [1n, 1n, 1n, 1n], [1n, 1n])).toBeGreaterThan(
      inlineCostMax,
    );
  });
});
