import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { DeviceFeatures, type MigrationFace } from "../../src/device/device-features.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { FeatureFlags, MigrationFlags, MigState, PrecopyInfo } from "../../src/spec/vfio.ts";
import { OwnFeature } from "../../src/spec/vfio-user.ts";
import { TestModel } from "./test-model.ts";
import { Vmm } from "./vmm.ts";

const { get, set, probe } = FeatureFlags.mask;
const { stopCopy, preCopy } = MigrationFlags.mask;
const pending = { initialBytes: 70_000, dirtyBytes: 12 };

const featuresOf = (face: Partial<MigrationFace>): DeviceFeatures => {
  const whole = { flags: stopCopy | preCopy, state: MigState.preCopy, stopCopyBytes: 9, ...face };
  return new DeviceFeatures({ ...whole, move: () => 0 }, new GuestMemory());
};
const bytes = new Uint8Array(64);
const ask = (features: DeviceFeatures, operation: number = get, capacity = bytes.length): number =>
  features.serve(operation | OwnFeature.precopyInfo, bytes, 8, 0, capacity);

describe("what PRE_COPY has still to send", () => {
  it("is a structure of 24 bytes in both states of PRE_COPY", () => {
    for (const state of [MigState.preCopy, MigState.preCopyP2p]) {
      expect(ask(featuresOf({ state, pending }))).toBe(PrecopyInfo.size);
      const info = PrecopyInfo.get(new DataView(bytes.buffer), 8);
      expect(info).toEqual({ argsz: 24, flags: 0, ...pending });
    }
  });

  it.each(Object.entries(MigState).filter(([name]) => !name.startsWith("preCopy")))(
    "is EINVAL in the state %s",
    (_, state) => {
      expect(ask(featuresOf({ state, pending }))).toBe(-errno.EINVAL);
    },
  );

  it("cannot be set, and needs room", () => {
    const features = featuresOf({ pending });
    expect(ask(features, set)).toBe(-errno.EINVAL);
    expect(ask(features, get, PrecopyInfo.size - 1)).toBe(-errno.EINVAL);
    expect(ask(features, probe | get)).toBe(0);
    expect(ask(features, probe | set)).toBe(-errno.EINVAL);
  });

  it("is no feature of a device without PRE_COPY, or that cannot tell", () => {
    for (const operation of [get, probe | get]) {
      expect(ask(featuresOf({ flags: stopCopy, pending }), operation)).toBe(-errno.ENOTTY);
      expect(ask(featuresOf({}), operation)).toBe(-errno.ENOTTY);
    }
  });

  it("is the rest of a model's image, and becomes fewer as it is read", () => {
    const device = new TestModel();
    const vmm = new Vmm(device);
    const told = (): readonly number[] | number => {
      const answer = vmm.get(OwnFeature.precopyInfo);
      if (typeof answer === "number") return answer;
      return [8, 16].map((at) => Number(answer.readBigUInt64LE(at)));
    };
    expect(told()).toBe(-errno.EINVAL);
    vmm.move(MigState.preCopy);
    const size = device.state.length;
    const [initial = 0, dirty] = told() as number[];
    expect([initial >= size, dirty]).toEqual([true, 0]);
    const sink = { bytes: new Uint8Array(1000), at: 0, lend: () => {} };
    device.readMigration(sink, 1000);
    expect(told()).toEqual([initial - 1000, 0]);
    while (device.readMigration({ ...sink, bytes: new Uint8Array(1 << 20) }, 1 << 20) === 1 << 20);
    expect(told()).toEqual([0, 0]);
    vmm.move(MigState.stopCopy);
    expect(told()).toBe(-errno.EINVAL);
  });
});
