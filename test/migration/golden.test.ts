/**
 * Streams of released versions load for ever. A new one is added, never replaced, by
 * `FERRY_GOLDEN=1 npx vitest run test/migration/golden.test.ts`.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { BulkCommand } from "../../src/devices/bulk/index.ts";
import { HelloDevice } from "../../src/devices/hello/hello.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { NativeDriver } from "../../src/migration/drivers/native.ts";
import { Migratable } from "../../src/migration/migratable.ts";
import { MigState, PciRegion } from "../../src/spec/vfio.ts";
import { Side } from "./bulk/pair.ts";
import { boot, Host } from "./hisi-acc/bench.ts";
import { load, move, save, TestClock } from "./operator.ts";

const folder = fileURLToPath(new URL("../golden/streams", import.meta.url));
const version = "0.1";
const scratchAt = 0x2c;
const smallBoard = { memoryMiB: "1" };
const { fill } = BulkCommand;
const page = 4096;

interface Golden {
  readonly name: string;
  /** A device that has something to say. */
  make(): Uint8Array;
  /** Loads it into a fresh device and looks whether it is all there. */
  check(stream: Uint8Array): void;
}

function hello(): Migratable {
  const device = new HelloDevice(false, true);
  const planes = { guest: device, control: device, memory: new GuestMemory() };
  return new Migratable(planes, new NativeDriver(planes), new TestClock().now);
}

const accelerator = (control: "own" | "silicon"): Golden => ({
  name: `hisi-acc-${control}`,
  make() {
    const host = new Host(control);
    const machine = boot(host);
    for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
    host.vmm.run();
    return host.save();
  },
  check(stream) {
    const host = new Host(control);
    expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
    // One event a queue: the tail stands behind them.
    expect(host.register("EQC") >>> 16).toBe(2);
    expect(host.register("EQC", 6) & 0xffff).toBe(3);
  },
});

const goldens: readonly Golden[] = [
  {
    name: "hello",
    make() {
      const device = hello();
      device.write(PciRegion.bar0, scratchAt, Uint8Array.of(7, 0, 0, 0), 0, 4);
      return save(device);
    },
    check(stream) {
      const device = hello();
      expect(load(device, stream).result, device.refusal).toBe(0);
      expect(move(device, MigState.running).result).toBe(0);
      const bytes = new Uint8Array(4);
      device.read(PciRegion.bar0, scratchAt, bytes, 0, 4);
      expect(bytes[0]).toBe(7);
    },
  },
  {
    name: "bulk",
    // With a section of each kind: the whole board, pages, some of them zeroes, and the rest.
    make() {
      const side = new Side(smallBoard);
      side.guest.run(fill, 0, 2 * page, { value: 1 });
      side.go(MigState.preCopy);
      const first = side.read();
      side.guest.run(fill, 0, page, { value: 0 });
      side.guest.run(fill, page, 1, { value: 2 });
      side.go(MigState.stopCopy);
      return Buffer.concat([first, side.read()]);
    },
    check(stream) {
      const side = new Side(smallBoard);
      side.guest.run(fill, 0, page, { value: 3 });
      side.become(stream);
      expect(side.guest.get("COMPLETED")).toBe(3);
      expect(side.guest.peek(page - 1, 3)).toEqual(Buffer.of(0, 2, 1));
    },
  },
  accelerator("own"),
  accelerator("silicon"),
];

const pathOf = (name: string): string => `${folder}/${name}-${version}.bin.gz`;

describe("a stream of version 0.1", () => {
  for (const { name, make, check } of goldens) {
    it(`of ${name} loads`, () => {
      const path = pathOf(name);
      if (process.env["FERRY_GOLDEN"] === "1" && !existsSync(path)) {
        mkdirSync(folder, { recursive: true });
        writeFileSync(path, gzipSync(make(), { level: 9 }));
      }
      check(gunzipSync(readFileSync(path)));
    });

    it(`of ${name} is still what is written`, () => {
      const golden = gunzipSync(readFileSync(pathOf(name)));
      check(make());
      expect(make().length).toBe(golden.length);
    });
  }
});
