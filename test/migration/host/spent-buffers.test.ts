import { expect, it } from "vitest";
import { SpentBuffers } from "../../../src/host/links/spent-buffers.ts";

const mib = 1_048_576;
const readBytes = 16_384;
const allBytes = 256 * mib;

it("what was read is let go of while it is little", () => {
  const spent = new SpentBuffers();
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let at = 0; at < allBytes; at += readBytes) {
    spent.add(Buffer.allocUnsafeSlow(readBytes).length);
    if (at % mib === 0) most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  // Some 10 MiB on a busy machine, where the last ones are still being freed; else 37.
  expect(most).toBeLessThan(24 * mib);
});
