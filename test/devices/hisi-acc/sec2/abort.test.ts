/** Requests that a stop of the device interrupts at every slice of their work. */
import { createCipheriv, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { create } from "../../../../src/devices/hisi-sec2/index.ts";
import { Sec2Driver } from "../../../../src/guest/sec2-driver.ts";
import { MigState } from "../../../../src/spec/vfio.ts";
import { Vmm } from "../../../device/vmm.ts";

const [key, iv] = [randomBytes(16), randomBytes(16)];

function encrypted(data: Uint8Array): Uint8Array {
  const cipher = createCipheriv("aes-128-cbc", key, iv).setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

describe("CBC in place", () => {
  /** In the device's thread at once, there over several slices, and in a compute worker. */
  it.each([4096, 1 << 20, 3 << 20])(
    "of %i bytes is right, stopped and started behind any slice, in both directions",
    (bytes) => {
      const device = create();
      const vmm = new Vmm(device);
      const driver = new Sec2Driver(device, { interrupts: false, dataBytesMax: bytes, depth: 2 });
      const plain = randomBytes(bytes);
      const sealed = encrypted(plain);
      for (const encrypt of [true, false]) {
        const [data, expected] = encrypt ? [plain, sealed] : [sealed, plain];
        for (let slices = 0; ; slices++) {
          const call = driver.submit({ algorithm: "cbc(aes)", encrypt, key, iv, data });
          for (let i = 0; i < slices && !call.done; i++) driver.qm.poll();
          const wasDone = call.done;
          vmm.move(MigState.stop);
          vmm.move(MigState.running);
          const found = driver.qm.wait(call).data;
          expect([encrypt, slices, Buffer.compare(found, expected)]).toEqual([encrypt, slices, 0]);
          if (wasDone) break;
          if (slices > 40) slices += slices;
        }
      }
      driver.close();
    },
  );
});
