/** The engine against node:crypto, where that has the mode, with keys and lengths as they come. */
import {
  type CipherCCMTypes,
  type CipherGCMTypes,
  createCipheriv,
  createHmac,
  randomBytes,
} from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CipherWork } from "../../../../src/devices/hisi-acc/sec2/cipher-work.ts";
import { Sec2Engine } from "../../../../src/devices/hisi-acc/sec2/engine.ts";
import { composedGcm } from "../../../../src/devices/hisi-acc/sec2/gcm.ts";
import { KeyedCiphers } from "../../../../src/devices/hisi-acc/sec2/keyed-ciphers.ts";
import { aes, type BlockCipher } from "../../../../src/devices/hisi-acc/sec2/primitives.ts";
import { composedXts } from "../../../../src/devices/hisi-acc/sec2/xts.ts";
import type { AlgorithmName } from "../../../../src/spec/hisi-sec2.ts";
import { FakeGuest, finish, type Request, Submission } from "./guest.ts";

const engine = new Sec2Engine();
const guest = new FakeGuest(1 << 22);
const runs = { numRuns: 60 };

/** What the engine makes of a request. */
function run(request: Request) {
  guest.reset();
  return finish(engine, guest, new Submission(guest, request));
}

/** Encrypts and decrypts with the engine; the data must come back. */
function both(request: Omit<Request, "encrypt">): { output: Uint8Array; tag: Uint8Array } {
  const there = run({ ...request, encrypt: true });
  const tag = request.tagBytes === undefined ? {} : { tag: there.tag };
  const back = run({ ...request, ...tag, encrypt: false, data: there.output });
  expect([there.error, back.error]).toEqual([0, 0]);
  expect(back.output).toEqual(request.data);
  return { output: there.output, tag: there.tag };
}

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const upTo = (maxLength: number, minLength = 0) => fc.uint8Array({ minLength, maxLength });
const blocks = (unit: number) =>
  fc.integer({ min: 1, max: 40 }).chain((count) => bytes(count * unit));
const keys = (...lengths: number[]) => fc.constantFrom(...lengths).chain(bytes);
const plain = (buffer: Uint8Array): Uint8Array => Uint8Array.from(buffer);

interface Mode {
  readonly algorithm: AlgorithmName;
  readonly node: (key: Uint8Array) => string;
  readonly key: fc.Arbitrary<Uint8Array>;
  readonly ivBytes: number;
  readonly data: fc.Arbitrary<Uint8Array>;
}

const aesName = (mode: string) => (key: Uint8Array) => `aes-${8 * key.length}-${mode}`;
const modes: readonly Mode[] = [
  {
    ...{ algorithm: "ecb(aes)", node: aesName("ecb"), key: keys(16, 24, 32), ivBytes: 0 },
    data: blocks(16),
  },
  {
    ...{ algorithm: "cbc(aes)", node: aesName("cbc"), key: keys(16, 24, 32), ivBytes: 16 },
    data: blocks(16),
  },
  {
    ...{ algorithm: "ctr(aes)", node: aesName("ctr"), key: keys(16, 24, 32), ivBytes: 16 },
    data: upTo(600, 1),
  },
  {
    ...{ algorithm: "xts(aes)", key: keys(32, 64), ivBytes: 16, data: upTo(600, 16) },
    node: (key) => `aes-${4 * key.length}-xts`,
  },
  {
    ...{ algorithm: "cbc(sm4)", node: () => "sm4-cbc", key: bytes(16), ivBytes: 16 },
    data: blocks(16),
  },
  {
    ...{ algorithm: "ctr(sm4)", node: () => "sm4-ctr", key: bytes(16), ivBytes: 16 },
    data: upTo(600, 1),
  },
  {
    ...{ algorithm: "ecb(des3_ede)", node: () => "des-ede3-ecb", key: bytes(24), ivBytes: 0 },
    data: blocks(8),
  },
  {
    ...{ algorithm: "cbc(des3_ede)", node: () => "des-ede3-cbc", key: bytes(24), ivBytes: 8 },
    data: blocks(8),
  },
];

function nodeEncrypts(name: string, key: Uint8Array, iv: Uint8Array, data: Uint8Array): Uint8Array {
  const cipher = createCipheriv(name, key, iv.length === 0 ? null : iv);
  cipher.setAutoPadding(false);
  return plain(Buffer.concat([cipher.update(data), cipher.final()]));
}

const equalHalves = (key: Uint8Array): boolean =>
  Buffer.compare(key.subarray(0, key.length / 2), key.subarray(key.length / 2)) === 0;

describe.each(modes)("$algorithm", ({ algorithm, node, key, ivBytes, data }) => {
  it("is what node:crypto makes, also with keys and IVs that come again", () => {
    const few = fc.tuple(fc.array(key, { minLength: 1, maxLength: 3 }), bytes(ivBytes));
    const work = fc.array(fc.tuple(fc.nat(2), data), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(few, work, ([pool, iv], requests) => {
        for (const [pick, source] of requests) {
          const chosen = pool[pick % pool.length] as Uint8Array;
          if (algorithm === "xts(aes)" && equalHalves(chosen)) continue;
          const { output } = both({ algorithm, key: chosen, iv, data: source });
          expect(output).toEqual(nodeEncrypts(node(chosen), chosen, iv, source));
        }
      }),
      runs,
    );
  });
});

describe("ctr", () => {
  it.each(["aes", "sm4"] as const)("%s counts on over 128 bits and over 32", (cipher) => {
    const key = randomBytes(16);
    const name = cipher === "aes" ? "aes-128-ecb" : "sm4-ecb";
    const algorithm = cipher === "aes" ? "ctr(aes)" : "ctr(sm4)";
    for (const filled of [16, 12, 8, 4, 1]) {
      const iv = new Uint8Array(16).fill(0xff, 16 - filled);
      const next = (counter: bigint) => (counter + 1n) % 2n ** 128n;
      const counters: string[] = [];
      let counter = BigInt(`0x${Buffer.from(iv).toString("hex")}`);
      for (let i = 0; i < 4; i++, counter = next(counter)) {
        counters.push(counter.toString(16).padStart(32, "0"));
      }
      const stream = nodeEncrypts(
        name,
        key,
        Buffer.alloc(0),
        Buffer.from(counters.join(""), "hex"),
      );
      const { output } = both({ algorithm, key, iv, data: new Uint8Array(61) });
      expect(output).toEqual(stream.subarray(0, 61));
    }
  });
});

const aeadParts = { key: keys(16, 24, 32), aad: upTo(70), data: upTo(300) };

describe("gcm(aes)", () => {
  it("is what node:crypto makes, with every length of the tag", () => {
    const tagBytes = fc.constantFrom(4, 8, 12, 13, 14, 15, 16);
    fc.assert(
      fc.property(fc.record({ ...aeadParts, iv: bytes(12), tagBytes }), (request) => {
        const { key, iv, aad, data } = request;
        const name = aesName("gcm")(key) as CipherGCMTypes;
        const cipher = createCipheriv(name, key, iv).setAAD(aad);
        const expected = plain(Buffer.concat([cipher.update(data), cipher.final()]));
        const { output, tag } = both({ ...request, algorithm: "gcm(aes)" });
        expect(output).toEqual(expected);
        expect(tag).toEqual(plain(cipher.getAuthTag()).subarray(0, request.tagBytes));
      }),
      runs,
    );
  });
});

describe("ccm(aes)", () => {
  it("is what node:crypto makes, with every length of nonce and tag", () => {
    const iv = keys(7, 8, 9, 10, 11, 12, 13);
    const tagBytes = fc.constantFrom(4, 6, 8, 10, 12, 14, 16);
    fc.assert(
      fc.property(fc.record({ ...aeadParts, iv, tagBytes }), (request) => {
        const { key, aad, data } = request;
        const name = aesName("ccm")(key) as CipherCCMTypes;
        const options = { authTagLength: request.tagBytes };
        const cipher = createCipheriv(name, key, request.iv, options);
        cipher.setAAD(aad, { plaintextLength: data.length });
        const expected = plain(Buffer.concat([cipher.update(data), cipher.final()]));
        const { output, tag } = both({ ...request, algorithm: "ccm(aes)" });
        expect(output).toEqual(expected);
        expect(tag).toEqual(plain(cipher.getAuthTag()));
      }),
      runs,
    );
  });

  it.each([0xfeff, 0xff00])("takes %i bytes of associated data", (length) => {
    const [key, nonce, aad] = [randomBytes(16), randomBytes(12), randomBytes(length)];
    const data = new Uint8Array(20);
    const cipher = createCipheriv("aes-128-ccm", key, nonce, { authTagLength: 16 });
    cipher.setAAD(aad, { plaintextLength: data.length });
    const expected = plain(Buffer.concat([cipher.update(data), cipher.final()]));
    const request = { key, iv: nonce, aad, data, tagBytes: 16 };
    const { output, tag } = both({ ...request, algorithm: "ccm(aes)" });
    expect(output).toEqual(expected);
    expect(tag).toEqual(plain(cipher.getAuthTag()));
  });
});

describe.each(["sha1", "sha256", "sha512"] as const)("authenc with hmac(%s)", (hash) => {
  it("is what node:crypto makes, with every length of key and tag", () => {
    const digestBytes = { sha1: 20, sha256: 32, sha512: 64 }[hash];
    const words = fc.integer({ min: 0, max: 63 });
    const request = fc.record({
      ...{ ...aeadParts, iv: bytes(16), data: blocks(16) },
      authKey: words.chain((count) => bytes(4 * count)),
      tagBytes: fc.integer({ min: 0, max: digestBytes / 4 }).map((count) => 4 * count),
    });
    fc.assert(
      fc.property(request, (each) => {
        const { key, iv, aad, data, authKey, tagBytes } = each;
        const expected = nodeEncrypts(aesName("cbc")(key), key, iv, data);
        const mac = createHmac(hash, authKey).update(aad).update(expected).digest();
        const algorithm = `authenc(hmac(${hash}),cbc(aes))` as const;
        const { output, tag } = both({ ...each, algorithm });
        expect(output).toEqual(expected);
        expect(tag).toEqual(plain(mac).subarray(0, tagBytes));
      }),
      runs,
    );
  });
});

describe("what is composed over node:crypto", () => {
  const ciphers = new KeyedCiphers();
  const none = new Uint8Array(0);
  const work = (parts: Partial<CipherWork>): CipherWork => ({
    ...{ transform: 0, encrypt: true, key: none, keyBytes: parts.key?.length ?? 0, iv: none },
    ...{ authIv: none, image: none, cipherOffset: 0, cipherBytes: 0, authOffset: 0 },
    ...{ authBytes: 0, authKey: none, authKeyBytes: 0, mac: none, macBytes: 16 },
    ...parts,
  });

  it("GCM, with AES instead of SM4, is node:crypto's", () => {
    fc.assert(
      fc.property(fc.record({ ...aeadParts, iv: bytes(12) }), ({ key, iv, aad, data }) => {
        const cipher = createCipheriv(aesName("gcm")(key) as CipherGCMTypes, key, iv).setAAD(aad);
        const expected = plain(Buffer.concat([cipher.update(data), cipher.final()]));
        const image = Uint8Array.of(...aad, ...data);
        const lengths = { cipherOffset: aad.length, cipherBytes: data.length };
        const result = composedGcm(
          ciphers,
          aes[key.length] as BlockCipher,
          work({ key, iv, image, ...lengths, authBytes: aad.length }),
        );
        expect(plain(result.data)).toEqual(expected);
        expect(plain(result.mac as Uint8Array)).toEqual(plain(cipher.getAuthTag()));
      }),
      runs,
    );
  });

  it("XTS, with AES instead of SM4, is node:crypto's", () => {
    const parts = fc.record({ key: keys(32, 64), iv: bytes(16), data: upTo(600, 16) });
    fc.assert(
      fc.property(parts, fc.boolean(), ({ key, iv, data }, encrypt) => {
        fc.pre(!equalHalves(key));
        const there = nodeEncrypts(`aes-${4 * key.length}-xts`, key, iv, data);
        const image = (encrypt ? data : there).slice();
        const asked = work({ encrypt, key, iv, image, cipherBytes: data.length });
        const result = composedXts(ciphers, aes[key.length / 2] as BlockCipher, asked);
        expect(plain(result)).toEqual(encrypt ? there : data);
      }),
      runs,
    );
  });
});
