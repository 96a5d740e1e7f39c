/** SEC2 against node:crypto. */
import {
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createHmac,
  randomBytes,
} from "node:crypto";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import type { Sec2Request, Sec2Result } from "../../src/guest/sec2-request.ts";
import type { Arena, Contest, ContestPromise } from "./contest.ts";

const depth = 64;
const memoryBytes = 32 << 20;
const sizes = [16, 4096, 65_536] as const;
const aadBytes = 16;
const tagBytes = 16;
const macBytes = 32;
const authKeyBytes = 32;

type Mode = "ecb" | "cbc" | "ctr" | "xts";

const same = (value: unknown, data: Uint8Array): boolean =>
  Buffer.compare((value as Sec2Result).data, data) === 0;

const promisedOf = (mode: Mode, bytes: number): { promised?: ContestPromise } => {
  if (mode !== "cbc") return {};
  if (bytes === 16) return { promised: { perSecond: 150_000 } };
  return bytes === 4096 ? { promised: { share: 0.7 } } : {};
};

/** Each call has an IV of its own, so node makes a cipher for it. */
function cipher(driver: Sec2Driver, mode: Mode, encrypt: boolean, bytes: number): Contest {
  const key = randomBytes(mode === "xts" ? 32 : 16);
  const iv = randomBytes(mode === "ecb" ? 0 : 16);
  const data = randomBytes(bytes);
  const name = `aes-128-${mode}`;
  const create = encrypt ? createCipheriv : createDecipheriv;
  const run = (): Uint8Array => {
    const made = create(name, key, mode === "ecb" ? null : iv);
    made.setAutoPadding(false);
    const output = made.update(data);
    made.final();
    return output;
  };
  const output = new Uint8Array(bytes);
  const request: Sec2Request = { algorithm: `${mode}(aes)`, encrypt, key, iv, data, output };
  const expected = run();
  return {
    name: `${mode}(aes) ${encrypt ? "encrypt" : "decrypt"}`,
    bytes,
    ...promisedOf(mode, bytes),
    submit: () => driver.submit(request),
    correct: (value) => same(value, expected),
    direct: run,
  };
}

function gcm(driver: Sec2Driver, bytes: number): Contest {
  const [key, iv] = [randomBytes(16), randomBytes(12)];
  const [aad, data] = [randomBytes(aadBytes), randomBytes(bytes)];
  const run = (): Uint8Array => {
    const made = createCipheriv("aes-128-gcm" satisfies CipherGCMTypes, key, iv).setAAD(aad);
    const output = made.update(data);
    made.final();
    made.getAuthTag();
    return output;
  };
  const output = new Uint8Array(bytes);
  const common = { algorithm: "gcm(aes)", encrypt: true, key, iv } as const;
  const request = { ...common, data, output, aad, tagBytes };
  const expected = run();
  return {
    name: "gcm(aes) encrypt",
    bytes,
    submit: () => driver.submit(request),
    correct: (value) => same(value, expected),
    direct: run,
  };
}

function authenc(driver: Sec2Driver, bytes: number): Contest {
  const [key, iv, authKey] = [randomBytes(16), randomBytes(16), randomBytes(authKeyBytes)];
  const [aad, data] = [randomBytes(aadBytes), randomBytes(bytes)];
  const run = (): Uint8Array => {
    const made = createCipheriv("aes-128-cbc", key, iv).setAutoPadding(false);
    const output = made.update(data);
    made.final();
    createHmac("sha256", authKey).update(aad).update(output).digest();
    return output;
  };
  const algorithm = "authenc(hmac(sha256),cbc(aes))";
  const keys = { algorithm, key, iv, authKey } as const;
  const output = new Uint8Array(bytes);
  const request = { ...keys, encrypt: true, data, output, aad, tagBytes: macBytes };
  const expected = run();
  return {
    name: "authenc sha256-cbc encrypt",
    bytes,
    submit: () => driver.submit(request),
    correct: (value) => same(value, expected),
    direct: run,
  };
}

export function sec2Arena(device: VfioDevice): Arena {
  const dataBytesMax = Math.max(...sizes) + aadBytes;
  const polled = { interrupts: false, batches: true };
  const driver = new Sec2Driver(device, { depth, dataBytesMax, memoryBytes, ...polled });
  const makers: readonly ((bytes: number) => Contest)[] = [
    (bytes) => cipher(driver, "cbc", true, bytes),
    (bytes) => cipher(driver, "cbc", false, bytes),
    (bytes) => cipher(driver, "ecb", true, bytes),
    (bytes) => cipher(driver, "ctr", true, bytes),
    (bytes) => cipher(driver, "xts", true, bytes),
    (bytes) => gcm(driver, bytes),
    (bytes) => authenc(driver, bytes),
  ];
  const contests = makers.flatMap((make) => sizes.map(make));
  return { qm: driver.qm, depth, contests };
}
