import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import {
  MigrationRegionV1,
  migrationRegion,
  settleTurnsMax,
  windowAt,
  windowBytes,
} from "../../src/device/migration-region-v1.ts";
import { deferred, type VfioDevice } from "../../src/device/vfio-device.ts";
import { Wrapper } from "../../src/device/wrapper.ts";
import { Feature, FeatureFlags, MigState } from "../../src/spec/vfio.ts";
import { badValue, Registers, TestModel } from "./test-model.ts";
import { Vmm } from "./vmm.ts";

const at = { deviceState: 0, reserved: 4, pendingBytes: 8, dataOffset: 16, dataSize: 24 } as const;
const [stop, running, stopCopy, preCopy, resuming] = [0, 1, 2, 3, 4] as const;
const states = [stop, running, stopCopy, preCopy, resuming];
const v2 = new Map<number, MigState>([
  [stop, MigState.stop],
  [running, MigState.running],
  [stopCopy, MigState.stopCopy],
  [preCopy, MigState.preCopy],
  [resuming, MigState.resuming],
]);
const setState = FeatureFlags.mask.set | Feature.migDeviceState;

/** A device that takes so many turns for each change of its state. */
class Late extends Wrapper {
  turns: number;
  left = 0;
  #state = 0;
  #owes = false;

  constructor(inner: VfioDevice, turns: number) {
    super(inner);
    this.turns = turns;
  }

  override feature(...args: Parameters<VfioDevice["feature"]>): number {
    const [flags, bytes, place] = args;
    if ((flags & setState) !== setState) return super.feature(...args);
    if (this.#owes) return -errno.EBUSY;
    this.#owes = true;
    this.left = this.turns;
    this.#state = bytes[place] as number;
    return deferred;
  }
  override work(): void {
    this.left -= 1;
  }
  override settle(): number {
    if (!this.#owes || this.left > 0) return deferred;
    this.#owes = false;
    return super.feature(setState, Uint8Array.of(this.#state, 0, 0, 0, 0, 0, 0, 0), 0, 8, 8);
  }
}

/** The VMM's side of the region. */
class Driver {
  readonly device: MigrationRegionV1;
  readonly model: TestModel;
  readonly bytes = Buffer.alloc(windowBytes + 64);

  constructor(model = new TestModel(), wrap: (model: TestModel) => VfioDevice = (same) => same) {
    this.model = model;
    this.device = new MigrationRegionV1(wrap(model));
  }

  read(offset: number, count: number): number {
    const result = this.device.read(migrationRegion, offset, this.bytes, 8, count);
    if (result < 0) return result;
    return count === 8 ? Number(this.bytes.readBigUInt64LE(8)) : this.bytes.readUInt32LE(8);
  }
  write(offset: number, count: number, value: number): number {
    this.bytes.writeBigUInt64LE(BigInt(value), 8);
    return this.device.write(migrationRegion, offset, this.bytes, 8, count);
  }

  get state(): number {
    return this.read(at.deviceState, 4);
  }
  move(bits: number): number {
    return this.write(at.deviceState, 4, bits);
  }

  /** The save loop: until nothing is pending, or so many times. */
  save(rounds = Number.POSITIVE_INFINITY): Buffer {
    const pieces: Buffer[] = [];
    while (pieces.length < rounds && this.read(at.pendingBytes, 8) > 0) {
      const offset = this.read(at.dataOffset, 8);
      const size = this.read(at.dataSize, 8);
      const piece = Buffer.alloc(size);
      expect(this.device.read(migrationRegion, offset, piece, 0, size)).toBe(0);
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** The resume loop. */
  load(stream: Buffer, chunk = windowBytes): void {
    for (let from = 0; from < stream.length; from += chunk) {
      const piece = stream.subarray(from, from + chunk);
      const offset = this.read(at.dataOffset, 8);
      expect(this.device.write(migrationRegion, offset, piece, 0, piece.length)).toBe(0);
      expect(this.write(at.dataSize, 8, piece.length)).toBe(0);
    }
  }

  bring(bits: number): void {
    this.device.reset();
    expect(this.move(bits)).toBe(0);
  }
}

const wraps = [
  ["at once", (model: TestModel): VfioDevice => model],
  ["after some turns", (model: TestModel): VfioDevice => new Late(model, 5)],
] as const;

describe("the region", () => {
  it("is one more of the device's, with a window behind its fields", () => {
    const { device, model } = new Driver();
    expect(device.regions.slice(0, migrationRegion)).toEqual(model.regions);
    const region = { size: 32 + 65_536, readable: true, writable: true, mmap: null };
    expect(device.regions.slice(migrationRegion)).toEqual([region]);
  });

  it("lets every other region through", () => {
    const { device, model } = new Driver();
    const bytes = Uint8Array.of(1, 2, 3, 4);
    expect(device.write(0, Registers.at.VALUE, bytes, 0, 4)).toBe(0);
    expect(model.registers.get("VALUE")).toBe(0x04030201);
    expect(device.read(0, Registers.at.VALUE, bytes, 0, 4)).toBe(0);
  });

  it("takes accesses of a field's own place and width alone", () => {
    const driver = new Driver();
    const widths = new Map([
      [at.deviceState, 4],
      [at.reserved, 4],
    ] as [number, number][]);
    for (const place of [at.pendingBytes, at.dataOffset, at.dataSize]) widths.set(place, 8);
    for (let offset = 0; offset < windowAt; offset++) {
      for (const count of [1, 2, 3, 4, 5, 8, 16, 32]) {
        const fits = widths.get(offset) === count;
        expect(driver.read(offset, count) < 0, `${offset}+${count}`).toBe(!fits);
      }
    }
    expect(driver.state).toBe(running);
  });

  it("says where data lies, and nothing else, while nothing is saved", () => {
    const driver = new Driver();
    for (const state of [stop, running, resuming]) {
      driver.bring(state);
      const told = [driver.read(at.pendingBytes, 8), driver.read(at.dataSize, 8)];
      expect([...told, driver.read(at.dataOffset, 8)]).toEqual([0, 0, windowAt]);
      expect(driver.read(windowAt, 4)).toBe(-errno.EINVAL);
    }
  });
});

describe.each(wraps)("a device that changes its state %s", (_, wrap) => {
  it.each(states.flatMap((from) => states.map((to) => [from, to] as const)))(
    "goes from %i to %i as version 2 does",
    (from, to) => {
      const driver = new Driver(new TestModel(), wrap);
      driver.bring(from);
      const refused = from === stopCopy && to === preCopy;
      expect(driver.move(to)).toBe(refused ? -errno.EINVAL : 0);
      expect(driver.state).toBe(refused ? from : to);
      expect(new Vmm(driver.model).state).toBe(v2.get(driver.state));
    },
  );

  it.each(states.flatMap((from) => [5, 6, 7, 8, 9, 0x10, 0x8000_0001].map((to) => [from, to])))(
    "does not go from %i to %i, which is no state",
    (from, to) => {
      const driver = new Driver(new TestModel(), wrap);
      driver.bring(from as number);
      expect(driver.move(to as number)).toBe(-errno.EINVAL);
      expect(driver.state).toBe(from);
    },
  );

  it.each([1, 4093, windowBytes])("brings its state along, %i bytes at a time", (chunk) => {
    const source = new Driver(new TestModel(), wrap);
    const target = new Driver(new TestModel(), wrap);
    source.model.registers.set("VALUE", 1234);
    source.model.own.fill(9);
    expect(source.move(stopCopy)).toBe(0);
    const stream = source.save();
    expect(target.move(resuming)).toBe(0);
    target.load(chunk === 1 ? stream.subarray(0, 100) : stream, chunk);
    if (chunk === 1) target.load(stream.subarray(100));
    expect(target.move(running)).toBe(0);
    expect(target.model.registers.get("VALUE")).toBe(1234);
    expect(target.model.own[99]).toBe(9);
  });

  it("sends what it has begun in PRE_COPY to its end, read or not", () => {
    for (const rounds of [0, 1, 2, Number.POSITIVE_INFINITY]) {
      const source = new Driver(new TestModel(), wrap);
      const target = new Driver(new TestModel(), wrap);
      expect(source.move(preCopy)).toBe(0);
      const first = source.save(rounds);
      source.read(at.pendingBytes, 8);
      source.model.registers.set("VALUE", 77);
      expect(source.move(stopCopy)).toBe(0);
      expect(target.move(resuming)).toBe(0);
      target.load(Buffer.concat([first, source.save()]));
      expect(target.move(running)).toBe(0);
      expect(target.model.registers.get("VALUE")).toBe(77);
    }
  });
});

describe("the save loop", () => {
  it("may look at pending_bytes as often as it likes", () => {
    const driver = new Driver();
    driver.move(stopCopy);
    const pending = driver.read(at.pendingBytes, 8);
    expect(pending).toBeGreaterThan(2 << 20);
    for (let i = 0; i < 5; i++) expect(driver.read(at.pendingBytes, 8)).toBe(pending);
    expect(driver.read(at.dataSize, 8)).toBe(windowBytes);
    expect(driver.read(at.dataSize, 8), "and at data_size").toBe(windowBytes);
    expect(driver.read(at.pendingBytes, 8)).toBe(pending - windowBytes);
    expect(driver.save()).toHaveLength(pending - windowBytes);
    expect([driver.read(at.pendingBytes, 8), driver.read(at.dataSize, 8)]).toEqual([0, 0]);
  });

  it("begins anew after an abort", () => {
    const driver = new Driver();
    driver.move(stopCopy);
    const whole = driver.read(at.pendingBytes, 8);
    driver.save(3);
    for (const back of [() => driver.move(running), () => driver.device.reset()]) {
      back();
      driver.move(stopCopy);
      expect(driver.read(at.pendingBytes, 8)).toBe(whole);
      driver.save(1);
    }
  });

  it("takes data that is lent", () => {
    const driver = new Driver();
    driver.model.own.fill(0x5a);
    driver.move(stopCopy);
    expect(driver.save().includes(Buffer.alloc(100, 0x5a))).toBe(true);
  });
});

describe("what a VMM must not have its way with", () => {
  const readOnly = [at.reserved, at.pendingBytes, at.dataOffset];

  it("data_offset and data_size are the device's: no out-of-bounds access as in 2021", () => {
    const driver = new Driver();
    driver.move(stopCopy);
    driver.read(at.pendingBytes, 8);
    for (const value of [0, 1, 0x7fff_ffff, 2 ** 40, 2 ** 53]) {
      expect(driver.write(at.dataOffset, 8, value)).toBe(-errno.EINVAL);
      expect(driver.write(at.dataSize, 8, value), "no commit while it saves").toBe(-errno.EINVAL);
    }
    expect(driver.read(at.dataOffset, 8)).toBe(windowAt);
    expect(driver.read(at.dataSize, 8)).toBe(windowBytes);
    driver.bring(resuming);
    for (const value of [windowBytes + 1, 0xffff_ffff, 2 ** 53]) {
      expect(driver.write(at.dataSize, 8, value)).toBe(-errno.EINVAL);
      expect(driver.write(at.dataOffset, 8, value)).toBe(-errno.EINVAL);
    }
    expect(driver.move(running), "nothing has arrived").toBe(0);
  });

  it.each(states)("read-only fields in state %i", (state) => {
    const driver = new Driver();
    driver.bring(state);
    for (const place of readOnly) {
      expect(driver.write(place, place === at.reserved ? 4 : 8, 1)).toBe(-errno.EINVAL);
    }
    expect(driver.read(at.reserved, 4)).toBe(0);
    expect(driver.state).toBe(state);
  });

  it("the window ends where the data ends, and is written in RESUMING only", () => {
    const driver = new Driver();
    const piece = Buffer.alloc(windowBytes);
    const access = (method: "read" | "write", offset: number, count: number): number =>
      driver.device[method](migrationRegion, windowAt + offset, piece, 0, count);
    driver.move(stopCopy);
    driver.read(at.pendingBytes, 8);
    expect([access("read", windowBytes - 4, 4), access("read", windowBytes - 4, 5)]).toEqual([
      0,
      -errno.EINVAL,
    ]);
    expect(access("write", 0, 4)).toBe(-errno.EINVAL);
    driver.bring(resuming);
    expect(access("write", 0, windowBytes)).toBe(0);
    expect(access("write", 1, windowBytes)).toBe(-errno.EINVAL);
    expect(access("read", 0, 1)).toBe(-errno.EINVAL);
  });

  it("a stream that is no state of the device's is refused, and said to be", () => {
    const source = new Driver();
    source.model.registers.set("VALUE", badValue);
    source.move(stopCopy);
    const driver = new Driver();
    driver.move(resuming);
    driver.load(source.save());
    expect(driver.move(running)).toBe(-errno.EINVAL);
    expect(driver.state, "SAVING and RESUMING is the error state").toBe(6);
    for (const to of states) expect(driver.move(to)).toBe(-errno.EINVAL);
    driver.device.reset();
    expect(driver.state).toBe(running);
  });
});

describe("a device that does not come to an end", () => {
  it(`is waited for ${settleTurnsMax} turns, and asked again later`, () => {
    let late: Late | undefined;
    const driver = new Driver(new TestModel(), (model) => {
      late = new Late(model, settleTurnsMax + 1);
      return late;
    });
    expect(driver.move(stop)).toBe(-errno.ETIMEDOUT);
    expect(late?.left).toBe(1);
    expect(driver.move(running), "it is at it still").toBe(-errno.EBUSY);
    expect(driver.state).toBe(running);
    late?.work();
    (late as Late).turns = 0;
    expect(driver.move(stopCopy)).toBe(0);
    expect(driver.state).toBe(stopCopy);
  });
});

describe("any device", () => {
  it("without VFIO's migration is one in ERROR, whose state cannot be set", () => {
    class Bare extends Wrapper {
      override feature(): number {
        return -errno.ENOTTY;
      }
    }
    const driver = new Driver(new TestModel(), (model) => new Bare(model));
    expect(driver.state).toBe(6);
    expect(driver.move(stopCopy)).toBe(-errno.ENOTTY);
    expect(driver.read(at.pendingBytes, 8)).toBe(0);
  });

  it("passes through the states of peer-to-peer under the names that version 1 has", () => {
    let state: number = MigState.runningP2p;
    class P2p extends Wrapper {
      override feature(...[, bytes, place]: Parameters<VfioDevice["feature"]>): number {
        bytes.set([state, 0, 0, 0, 0, 0, 0, 0], place);
        return 8;
      }
    }
    const driver = new Driver(new TestModel(), (model) => new P2p(model));
    expect(driver.state).toBe(running);
    state = MigState.preCopyP2p;
    expect(driver.state).toBe(preCopy);
  });
});
