import { randomBytes } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { VfioDevice } from "../device/vfio-device.ts";
import type { EngineDriverOptions } from "./engine-options.ts";
import { expectBytes, type Trial, type Work, type Workload } from "./work.ts";
import { ZipDriver } from "./zip-driver.ts";

/** Data of a request before its compression, in bytes. */
const sizes = [512, 4096, 65_536] as const;
const longestBytes = Math.max(...sizes);

/** Data that compresses as a log does: lines that differ in their numbers. */
function lines(bytes: number): Uint8Array {
  let text = "";
  for (let i = 0; text.length < bytes; i++) {
    text += `${i * 37} request ${(i * 7919) % 1000} took ${(i * 104_729) % 977} us\n`;
  }
  return Buffer.from(text.slice(0, bytes));
}

/** What is compressed. */
const contents: ReadonlyArray<readonly [name: string, make: (bytes: number) => Uint8Array]> = [
  ["text", lines],
  ["noise", (bytes) => randomBytes(bytes)],
];

/** Streams of one content may differ, so the answer is held against what zlib makes of it. */
function deflate(driver: ZipDriver, data: Uint8Array): Trial {
  const call = driver.submitDeflate(data);
  const inflated = (): Uint8Array => {
    try {
      return inflateRawSync(call.value, { maxOutputLength: data.length + 1 });
    } catch {
      return new Uint8Array(0);
    }
  };
  return { call, correct: () => Buffer.compare(inflated(), data) === 0 };
}

function works(driver: ZipDriver, name: string, data: Uint8Array): Work[] {
  const { length: bytes } = data;
  const stream = deflateRawSync(data);
  const inflate = (): Trial => expectBytes(driver.submitInflate(stream, bytes), data);
  return [
    { name: `deflate ${name}`, bytes, start: () => deflate(driver, data) },
    { name: `inflate ${name}`, bytes, start: inflate },
  ];
}

/** Compression by the device, held against zlib. */
export function zipWorkload(device: VfioDevice, options: EngineDriverOptions): Workload {
  const driver = new ZipDriver(device, { ...options, dataBytesMax: longestBytes });
  return {
    device: "hisi-zip",
    qm: driver.qm,
    works: contents.flatMap(([name, make]) =>
      sizes.flatMap((bytes) => works(driver, name, make(bytes))),
    ),
  };
}
