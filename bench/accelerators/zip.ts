/** ZIP against node:zlib, with the level and the window that the device uses. */
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { ZipDriver } from "../../src/guest/zip-driver.ts";
import type { Arena, Contest, ContestPromise } from "./contest.ts";

/** Longer queues only push the data out of the caches. */
const depth = 2;
const memoryBytes = 64 << 20;
const sizes = [4096, 65_536, 1 << 20] as const;
const asTheDevice = { level: constants.Z_BEST_SPEED, windowBits: 11 };

/** Lines that differ in their numbers, as a log's do. */
export function logLines(bytes: number): Uint8Array {
  const text = Buffer.alloc(bytes);
  for (let at = 0, i = 0; at < bytes; i++) {
    const line = `${i * 37} request ${(i * 7919) % 1000} took ${(i * 104_729) % 977} us\n`;
    at += text.write(line, at, "latin1");
  }
  return text;
}

const promisedOf = (bytes: number): { promised?: ContestPromise } =>
  bytes === 65_536 ? { promised: { share: 0.85 } } : {};

function both(driver: ZipDriver, bytes: number): Contest[] {
  const data = logLines(bytes);
  const stream = deflateRawSync(data, asTheDevice);
  const output = new Uint8Array(bytes);
  return [
    {
      ...{ name: "deflate", bytes, ...promisedOf(bytes) },
      submit: () => driver.submitDeflate(data, output),
      correct: (value) => Buffer.compare(inflateRawSync(value as Uint8Array), data) === 0,
      direct: () => deflateRawSync(data, asTheDevice),
    },
    {
      ...{ name: "inflate", bytes, ...promisedOf(bytes) },
      submit: () => driver.submitInflate(stream, bytes, output),
      correct: (value) => Buffer.compare(value as Uint8Array, data) === 0,
      direct: () => inflateRawSync(stream, { maxOutputLength: bytes }),
    },
  ];
}

export function zipArena(device: VfioDevice): Arena {
  const dataBytesMax = Math.max(...sizes);
  const polled = { interrupts: false, batches: true };
  const driver = new ZipDriver(device, { depth, dataBytesMax, memoryBytes, ...polled });
  return { qm: driver.qm, depth, contests: sizes.flatMap((bytes) => both(driver, bytes)) };
}
