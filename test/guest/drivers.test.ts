/** The drivers over devices in this very process: what they compute, and how they fail. */
import { createCipheriv, createDecipheriv, createHmac, getDiffieHellman } from "node:crypto";
import { inflateRawSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { create as createHello } from "../../src/devices/hello/index.ts";
import { create as createHpre } from "../../src/devices/hisi-hpre/index.ts";
import { create as createSec2 } from "../../src/devices/hisi-sec2/index.ts";
import { create as createZip } from "../../src/devices/hisi-zip/index.ts";
import type { EngineDriverOptions } from "../../src/guest/engine-options.ts";
import { HpreDriver } from "../../src/guest/hpre-driver.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { encodeSec2 } from "../../src/guest/sec2-request.ts";
import { doWork, type Work } from "../../src/guest/work.ts";
import { openWorkload } from "../../src/guest/workloads.ts";
import { ZipDriver } from "../../src/guest/zip-driver.ts";
import { Qm, qmBar } from "../../src/spec/hisi-qm.ts";
import { Bd3 } from "../../src/spec/hisi-sec2.ts";
import { openFds } from "../client/fake-server.ts";

const filled = (length: number, seed = 1): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 8) * 31 + seed) & 0xff);

const key = filled(16, 3);
const iv = filled(16, 5);
const entry = { sqeBytes: Bd3.size, tagAt: Bd3.offset.tag };

/** What a test leaves open. */
const open: { close(): void }[] = [];
function closing<T extends { close(): void }>(driver: T): T {
  open.push(driver);
  return driver;
}
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

const sec2 = (options: EngineDriverOptions = {}, device: VfioDevice = createSec2()): Sec2Driver =>
  closing(new Sec2Driver(device, options));

function reference(cipher: string, data: Uint8Array): Uint8Array {
  const made = createCipheriv(cipher, key, iv).setAutoPadding(false);
  return Buffer.concat([made.update(data), made.final()]);
}

const equal = (found: Uint8Array, expected: Uint8Array): void =>
  expect(Buffer.compare(found, expected)).toBe(0);

describe.each([true, false])("SEC2, with interrupts: %s", (interrupts) => {
  it("does what OpenSSL does, in both directions", () => {
    const driver = sec2({ interrupts });
    for (const bytes of [16, 4096, 4112, 65_536]) {
      const data = filled(bytes);
      const sealed = driver.aesCbc(key, iv, data, true);
      equal(sealed, reference("aes-128-cbc", data));
      equal(driver.aesCbc(key, iv, sealed, false), data);
    }
    equal(driver.aesCtr(key, iv, filled(33)), reference("aes-128-ctr", filled(33)));
  });

  it("goes around its rings, with as many requests under way as it has slots", () => {
    const driver = sec2({ interrupts, depth: 3 });
    for (let round = 0; round < 7; round++) {
      const texts = [1, 2, 3].map((seed) => filled(32, seed + 8 * round));
      const calls = texts.map((data) =>
        driver.submit({ algorithm: "cbc(aes)", encrypt: true, key, iv, data }),
      );
      const more = { algorithm: "cbc(aes)", encrypt: true, key, iv, data: iv } as const;
      expect(() => driver.submit(more)).toThrow(/queue 0 is full/);
      for (const [i, call] of calls.entries()) {
        const data = texts[i] as Uint8Array;
        equal(driver.qm.wait(call).data, reference("aes-128-cbc", data));
      }
    }
  });
});

describe("SEC2", () => {
  it("seals and opens, and finds what was changed", () => {
    const driver = sec2();
    const [nonce, data, aad] = [filled(12), filled(100), filled(20, 9)];
    const sealed = driver.aesGcmSeal(key, nonce, data, aad);
    const cipher = createCipheriv("aes-128-gcm", key, nonce).setAAD(aad);
    equal(sealed.data, Buffer.concat([cipher.update(data), cipher.final()]));
    equal(sealed.tag, cipher.getAuthTag());
    equal(driver.aesGcmOpen(key, nonce, sealed, aad), data);
    expect(() => driver.aesGcmOpen(key, nonce, sealed)).toThrow(/tag does not match/);
    equal(driver.aesGcmOpen(key, nonce, sealed, aad), data);
  });

  it.each([7, 12, 13])("makes CCM's blocks of a nonce of %i bytes", (nonceBytes) => {
    const driver = sec2();
    const [nonce, data, aad] = [filled(nonceBytes), filled(70), filled(14)];
    const request = { algorithm: "ccm(aes)", key, iv: nonce, aad } as const;
    const sealed = driver.run({ ...request, encrypt: true, data, tagBytes: 8 });
    const cipher = createDecipheriv("aes-128-ccm", key, nonce, { authTagLength: 8 });
    cipher.setAuthTag(sealed.tag).setAAD(aad, { plaintextLength: data.length });
    equal(Buffer.concat([cipher.update(sealed.data), cipher.final()]), data);
    equal(driver.run({ ...request, encrypt: false, ...sealed }).data, data);
  });

  it("authenticates what it ciphers with a key of its own", () => {
    const driver = sec2();
    const [data, aad, authKey] = [filled(64), filled(8), filled(32, 77)];
    const algorithm = "authenc(hmac(sha256),cbc(aes))";
    const request = { algorithm, key, iv, aad, authKey } as const;
    const sealed = driver.run({ ...request, encrypt: true, data, tagBytes: 32 });
    equal(sealed.data, reference("aes-128-cbc", data));
    equal(sealed.tag, createHmac("sha256", authKey).update(aad).update(sealed.data).digest());
    const wrong = { ...sealed, tag: filled(32) };
    expect(() => driver.run({ ...request, encrypt: false, ...wrong })).toThrow(/tag/);
  });

  it("tells of a request that the device refuses, and goes on", () => {
    const driver = sec2();
    expect(() => driver.aesCbc(key, iv, filled(15), true)).toThrow(/SEC2 refused the request/);
    equal(driver.aesCbc(key, iv, filled(16), true), reference("aes-128-cbc", filled(16)));
  });

  it("knows what the device offers", () => {
    const driver = sec2({}, createSec2({ algorithms: "cbc(aes),xts(aes)" }));
    expect([...driver.algorithms]).toEqual(["cbc(aes)", "xts(aes)"]);
  });

  it("works with one interrupt for everything, and few queues and entries", () => {
    const driver = sec2({}, createSec2({ vectors: "single", queues: "1", depth: "4" }));
    expect(driver.qm.traits).toMatchObject({ queues: 1, sqDepth: 4, vectors: 1, aeqVector: -1 });
    equal(driver.aesCbc(key, iv, filled(32), true), reference("aes-128-cbc", filled(32)));
    const more = { ...entry, algType: 0, depth: 1, requestBytes: 64 };
    expect(() => driver.qm.createQueue(more)).toThrow(/all of the device's 1 queues are taken/);
  });
});

describe("the queue manager", () => {
  it("starts anew after a reset; what was under way is lost", () => {
    const driver = sec2();
    driver.aesCbc(key, iv, filled(32), true);
    const lost = driver.submit({ algorithm: "cbc(aes)", encrypt: true, key, iv, data: iv });
    driver.qm.reset();
    expect(lost.done).toBe(true);
    expect(() => lost.value).toThrow(/started anew/);
    for (let i = 0; i < 40; i++) {
      equal(driver.aesCbc(key, iv, filled(32, i), true), reference("aes-128-cbc", filled(32, i)));
    }
  });

  it("takes over from a driver that died with requests under way", () => {
    const device = createSec2();
    const dead = new Sec2Driver(device);
    dead.submit({ algorithm: "cbc(aes)", encrypt: true, key, iv, data: filled(65_536) });
    device.detach();
    const driver = sec2({}, device);
    equal(driver.aesCbc(key, iv, filled(32), true), reference("aes-128-cbc", filled(32)));
    dead.qm.memory.ram.close();
    dead.qm.function.closeEventfds();
  });

  it("has no more requests under way than the device's queues take", () => {
    const { qm, works } = openWorkload(createZip({ depth: "4" }), { depth: 8 });
    closing(qm);
    const result = doWork(qm, works[0] as Work, { depth: 8, durationMs: 0 });
    expect(result).toMatchObject({ requests: 3, errors: 0 });
  });

  it("says ready while it runs, and leaves nothing behind", () => {
    const before = openFds();
    const device = createSec2();
    const driver = new Sec2Driver(device);
    const state = () => driver.qm.function.read(qmBar, Qm.at.VF_STATE);
    expect(state()).toBe(0);
    driver.aesCbc(key, iv, filled(32), true);
    driver.close();
    expect(state()).toBe(1);
    expect(openFds()).toBe(before);
    equal(sec2({}, device).aesCbc(key, iv, iv, true), reference("aes-128-cbc", iv));
  });

  it.each([
    [true, "split"],
    [true, "single"],
    [false, "split"],
  ])("tells that the device has stopped a queue: %s, %s", (interrupts, vectors) => {
    const driver = sec2({ interrupts }, createSec2({ vectors }));
    const options = { ...entry, algType: 0, depth: 2, requestBytes: 4096 };
    const request = { algorithm: "cbc(aes)", encrypt: true, key, iv, data: iv } as const;
    const call = driver.qm.createQueue(options).submit((sqe, at, memory) => {
      const decode = encodeSec2(request, sqe, at, memory);
      const notThere = 0x1000;
      Bd3.fields.cKeyAddr.write(sqe, at + Bd3.offset.cKeyAddr, notThere);
      return decode;
    });
    expect(() => driver.qm.wait(call)).toThrow(/the device stopped queue 1: a bad entry/);
  });

  it("does not take a device that it does not know", () => {
    const before = openFds();
    for (const device of [createHello(), createZip()]) {
      expect(() => new Sec2Driver(device)).toThrow(/is no device for this driver/);
    }
    expect(openFds()).toBe(before);
  });
});

describe("ZIP", () => {
  const driver = () => closing(new ZipDriver(createZip()));

  it("compresses and decompresses what zlib does", () => {
    const zip = driver();
    for (const data of [Buffer.alloc(65_536, "abcd"), filled(5000), filled(1)]) {
      const stream = zip.deflate(data);
      equal(inflateRawSync(stream), data);
      equal(zip.inflate(stream, data.length), data);
    }
  });

  it("tells of a stream that is none, and of too little room", () => {
    const zip = driver();
    expect(() => zip.inflate(Uint8Array.of(0xff, 0xff), 100)).toThrow(/ZIP refused/);
    const stream = zip.deflate(Buffer.alloc(1000));
    expect(() => zip.inflate(stream, 999)).toThrow(/ZIP refused the request: status 14/);
  });
});

describe("HPRE", () => {
  it("agrees on a secret, with RFC 7748's numbers and with RFC 3526's", () => {
    const driver = closing(new HpreDriver(createHpre()));
    const hex = (text: string): Uint8Array => Buffer.from(text, "hex");
    const scalar = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
    const u = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    const product = hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    equal(driver.x25519(scalar, u), product);
    const [alice, bob] = [getDiffieHellman("modp5"), getDiffieHellman("modp5")];
    alice.generateKeys();
    bob.generateKeys();
    const prime = alice.getPrime();
    const toBob = driver.dh(prime, alice.getPrivateKey(), null);
    const shared = driver.dh(prime, alice.getPrivateKey(), bob.getPublicKey());
    equal(shared.subarray(-192), driver.dh(prime, bob.getPrivateKey(), toBob));
    expect(() => driver.dh(prime, alice.getPrivateKey(), prime)).toThrow(/HPRE refused/);
  });
});
