import { type CipherGCM, createCipheriv, createHmac, randomBytes } from "node:crypto";
import type { VfioDevice } from "../device/vfio-device.ts";
import type { AlgorithmName } from "../spec/hisi-sec2.ts";
import type { EngineDriverOptions } from "./engine-options.ts";
import { Sec2Driver } from "./sec2-driver.ts";
import type { Sec2Request, Sec2Result } from "./sec2-request.ts";
import type { Trial, Work, Workload } from "./work.ts";

/** Data of a request, in bytes. */
const sizes = [64, 4096, 65_536] as const;
const aadBytes = 20;
const longestBytes = Math.max(...sizes) + aadBytes;

interface Row {
  readonly algorithm: AlgorithmName;
  /** As OpenSSL names it. */
  readonly cipher: string;
  readonly keyBytes: number;
  readonly ivBytes: number;
  /** Of algorithms that authenticate. */
  readonly tagBytes?: number;
  /** Of algorithms that authenticate with a hash. */
  readonly hash?: string;
}

const withHmac = { algorithm: "authenc(hmac(sha256),cbc(aes))", hash: "sha256" } as const;

/** What OpenSSL and SEC2 both do. */
const rows: readonly Row[] = [
  { algorithm: "ecb(aes)", cipher: "aes-128-ecb", keyBytes: 16, ivBytes: 0 },
  { algorithm: "cbc(aes)", cipher: "aes-256-cbc", keyBytes: 32, ivBytes: 16 },
  { algorithm: "ctr(aes)", cipher: "aes-128-ctr", keyBytes: 16, ivBytes: 16 },
  { algorithm: "xts(aes)", cipher: "aes-256-xts", keyBytes: 64, ivBytes: 16 },
  { algorithm: "gcm(aes)", cipher: "aes-256-gcm", keyBytes: 32, ivBytes: 12, tagBytes: 16 },
  { ...withHmac, cipher: "aes-128-cbc", keyBytes: 16, ivBytes: 16, tagBytes: 32 },
];

/** A request with fresh keys and data for each direction, and what must come of them. */
interface Sample {
  readonly sealing: Sec2Request;
  readonly opening: Sec2Request;
  readonly sealed: Sec2Result;
}

function makeSample(row: Row, bytes: number): Sample {
  const { algorithm, tagBytes = 0, hash } = row;
  const [key, iv] = [randomBytes(row.keyBytes), randomBytes(row.ivBytes)];
  const [data, authKey] = [randomBytes(bytes), randomBytes(hash === undefined ? 0 : 32)];
  const aad = randomBytes(tagBytes > 0 ? aadBytes : 0);
  const cipher = createCipheriv(row.cipher, key, iv) as CipherGCM;
  const isGcm = tagBytes > 0 && hash === undefined;
  if (isGcm) cipher.setAAD(aad);
  else cipher.setAutoPadding(false);
  const sealedData = Buffer.concat([cipher.update(data), cipher.final()]);
  let tag: Uint8Array = isGcm ? cipher.getAuthTag() : new Uint8Array(0);
  if (hash !== undefined) {
    tag = createHmac(hash, authKey).update(aad).update(sealedData).digest();
  }
  const common = { algorithm, key, iv, aad, authKey, tagBytes };
  return {
    sealing: { ...common, encrypt: true, data },
    opening: { ...common, encrypt: false, data: sealedData, tag },
    sealed: { data: sealedData, tag },
  };
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

function seal(driver: Sec2Driver, { sealing, sealed }: Sample): Trial {
  const call = driver.submit(sealing);
  return {
    call,
    correct: () => same(call.value.data, sealed.data) && same(call.value.tag, sealed.tag),
  };
}

function open(driver: Sec2Driver, { opening, sealing }: Sample): Trial {
  const call = driver.submit(opening);
  return { call, correct: () => same(call.value.data, sealing.data) };
}

function works(driver: Sec2Driver, row: Row, bytes: number): Work[] {
  const sample = makeSample(row, bytes);
  return [
    { name: `${row.algorithm} encrypt`, bytes, start: () => seal(driver, sample) },
    { name: `${row.algorithm} decrypt`, bytes, start: () => open(driver, sample) },
  ];
}

/** Ciphers of the device's, held against OpenSSL's. */
export function sec2Workload(device: VfioDevice, options: EngineDriverOptions): Workload {
  const driver = new Sec2Driver(device, { ...options, dataBytesMax: longestBytes });
  const offered = rows.filter(({ algorithm }) => driver.algorithms.has(algorithm));
  return {
    device: "hisi-sec2",
    qm: driver.qm,
    works: offered.flatMap((row) => sizes.flatMap((bytes) => works(driver, row, bytes))),
  };
}
