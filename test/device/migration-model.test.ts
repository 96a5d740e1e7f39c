import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { type MigrationDevice, MigrationModel } from "../../src/device/migration-model.ts";
import { MigState, migStateName } from "../../src/spec/vfio.ts";
import { CopySink } from "./vmm.ts";

const { error, stop, running, stopCopy, resuming, runningP2p, preCopy, preCopyP2p } = MigState;

/**
 * The paths of a device with STOP_COPY and PRE_COPY, without the state they start from, by the
 * kernel's table of next states (`vfio_mig_get_next_state`, states that the device lacks skipped).
 * null is refused.
 */
const paths: readonly (readonly [MigState, MigState, readonly MigState[] | null])[] = [
  [stop, stop, []],
  [stop, running, [running]],
  [stop, stopCopy, [stopCopy]],
  [stop, resuming, [resuming]],
  [stop, preCopy, [running, preCopy]],
  [running, stop, [stop]],
  [running, running, []],
  [running, stopCopy, [stop, stopCopy]],
  [running, resuming, [stop, resuming]],
  [running, preCopy, [preCopy]],
  [stopCopy, stop, [stop]],
  [stopCopy, running, [stop, running]],
  [stopCopy, stopCopy, []],
  [stopCopy, resuming, [stop, resuming]],
  [stopCopy, preCopy, null],
  [resuming, stop, [stop]],
  [resuming, running, [stop, running]],
  [resuming, stopCopy, [stop, stopCopy]],
  [resuming, resuming, []],
  [resuming, preCopy, [stop, running, preCopy]],
  [preCopy, stop, [running, stop]],
  [preCopy, running, [running]],
  [preCopy, stopCopy, [stopCopy]],
  [preCopy, resuming, [running, stop, resuming]],
  [preCopy, preCopy, []],
];
const states = [stop, running, stopCopy, resuming, preCopy] as const;
const nowhere = [error, runningP2p, preCopyP2p, 8, 0xabcd, 0xffffffff];

/** A device of `size` bytes that says what it was told to do. */
class Recorder implements MigrationDevice {
  readonly log: string[] = [];
  memory: Buffer;
  staged: Buffer;
  refusal = 0;
  readonly image;

  constructor(size: number) {
    this.memory = Buffer.alloc(size);
    this.staged = Buffer.alloc(size);
    this.image = {
      size,
      lend: (offset: number, length: number, sink: { bytes: Uint8Array; at: number }) => {
        sink.bytes.set(this.memory.subarray(offset, offset + length), sink.at);
      },
      copy: (offset: number, length: number, bytes: Uint8Array, at: number) => {
        bytes.set(this.memory.subarray(offset, offset + length), at);
      },
      prepare: () => {
        this.log.push("prepare");
      },
      load: (offset: number, bytes: Uint8Array, at: number, length: number) => {
        this.staged.set(bytes.subarray(at, at + length), offset);
        return 0;
      },
      check: () => (this.staged[0] === 0x99 ? -errno.EINVAL : 0),
      commit: () => {
        this.log.push("commit");
        this.memory = Buffer.from(this.staged);
      },
      discard: () => {},
    };
  }

  stop(): void {
    this.log.push("stop");
  }
  start(): void {
    this.log.push("start");
  }
  restored(): number {
    return this.refusal;
  }
}

const make = (size = 10) => {
  const device = new Recorder(size);
  for (let i = 0; i < size; i++) device.memory[i] = i + 1;
  const model = new MigrationModel(device, new DataView(new ArrayBuffer(8)), 4);
  const read = (length: number) => {
    const sink = new CopySink(length);
    const count = model.read(sink, length);
    return count < 0 ? count : [...sink.bytes.subarray(sink.at, sink.at + count)];
  };
  return { device, model, read };
};

/** Moves to a state on the way that is allowed, with a good stream where one is needed. */
function bring(model: MigrationModel, state: MigState): void {
  model.reset();
  expect(model.move(state)).toBe(0);
  expect(model.state).toBe(state);
}

describe("migration states", () => {
  it("have a line in the table of paths for every pair", () => {
    expect(paths.map(([from, to]) => [from, to])).toEqual(
      states
        .flatMap((from) => states.map((to) => [from, to]))
        .sort(([a], [b]) => states.indexOf(a as never) - states.indexOf(b as never)),
    );
  });

  it.each(
    paths.map(([from, to, path]) => ({
      from,
      to,
      path,
      name: `${migStateName(from)} to ${migStateName(to)}`,
    })),
  )("move from $name as the kernel does", ({ from, to, path }) => {
    const { device, model } = make();
    bring(model, from);
    if (from === resuming) model.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 0, 10);
    device.log.length = 0;
    expect(model.move(to)).toBe(path === null ? -errno.EINVAL : 0);
    expect(model.state).toBe(path === null ? from : to);
    const runs = (state: MigState) => state === running || state === preCopy;
    const expected: string[] = [];
    let at: MigState = from;
    for (const next of path ?? []) {
      if (at === resuming) expected.push("commit");
      if (runs(at) && !runs(next)) expected.push("stop");
      if (!runs(at) && runs(next)) expected.push("start");
      if (next === resuming) expected.push("prepare");
      at = next;
    }
    expect(device.log).toEqual(expected);
    expect(model.running).toBe(runs(model.state));
  });

  it.each(states.flatMap((from) => nowhere.map((to) => [from, to])))(
    "do not move from %i to %i, which the device does not have",
    (from, to) => {
      const { model } = make();
      bring(model, from as MigState);
      expect(model.move(to as number)).toBe(-errno.EINVAL);
      expect(model.state).toBe(from);
    },
  );

  it("leave ERROR by a reset only", () => {
    const { device, model } = make();
    bring(model, resuming);
    device.refusal = -errno.EIO;
    model.write(new Uint8Array(10), 0, 10);
    expect(model.move(running)).toBe(-errno.EIO);
    expect(model.state).toBe(error);
    expect(model.running).toBe(false);
    for (const to of [...states, ...nowhere]) expect(model.move(to)).toBe(-errno.EINVAL);
    expect(model.write(new Uint8Array(1), 0, 1)).toBe(-errno.EINVAL);
    model.reset();
    expect(model.state).toBe(running);
    expect(device.log.at(-1)).toBe("start");
  });
});

describe("the stream", () => {
  it.each(states)("is read and written in the states for it (%i)", (state) => {
    const { model, read } = make();
    bring(model, state);
    const reads = state === preCopy || state === stopCopy;
    expect(read(4)).toEqual(reads ? [1, 2, 3, 4] : -errno.EINVAL);
    expect(read(0)).toEqual(reads ? [] : -errno.EINVAL);
    expect(model.write(new Uint8Array(4), 0, 4)).toBe(state === resuming ? 0 : -errno.EINVAL);
  });

  it("is the image, and then ends", () => {
    const { model, read } = make();
    bring(model, stopCopy);
    expect(model.stopCopyBytes).toBe(10);
    expect(read(6)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(model.stopCopyBytes).toBe(4);
    expect(read(6)).toEqual([7, 8, 9, 10]);
    expect([read(6), read(1), model.stopCopyBytes]).toEqual([[], [], 0]);
    expect(model.move(stop)).toBe(0);
    expect(model.move(stopCopy)).toBe(0);
    expect(read(100), "from the start again").toHaveLength(10);
  });

  it("is the image twice with a pre-copy, in whatever pieces, the second as it is then", () => {
    for (const before of [0, 3, 10, 11]) {
      for (const chunk of [1, 4, 7, 10, 13, 25]) {
        const { device, model, read } = make();
        bring(model, preCopy);
        const stream = before === 0 ? [] : (read(before) as number[]);
        device.memory.fill(0x55);
        expect(model.move(stopCopy)).toBe(0);
        const left = model.stopCopyBytes;
        const second: number[] = [];
        for (let piece = read(chunk) as number[]; ; piece = read(chunk) as number[]) {
          second.push(...piece);
          if (piece.length < chunk) break;
        }
        expect(second).toHaveLength(left);
        stream.push(...second);
        expect(stream.length % 10).toBe(0);
        expect(stream.slice(-10)).toEqual(Array(10).fill(0x55));
        expect(stream.length).toBe(before === 0 ? 10 : 20);
      }
    }
  });

  it("is taken up when RESUMING ends, the last image of it", () => {
    const { device, model } = make();
    bring(model, resuming);
    const stream = Uint8Array.from({ length: 33 }, (_, i) => i);
    expect(model.write(stream, 1, 25)).toBe(0);
    expect(model.write(stream, 26, 5)).toBe(0);
    expect([...device.memory]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(model.move(stop)).toBe(0);
    expect([...device.memory]).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30]);
  });

  it("is refused where it does not end with an image, and can be sent again", () => {
    const { device, model } = make();
    bring(model, resuming);
    model.write(new Uint8Array(11), 0, 11);
    expect(model.move(running)).toBe(-errno.EINVAL);
    expect([model.state, device.log.includes("commit")]).toEqual([resuming, false]);
    model.write(new Uint8Array(10).fill(0x99), 0, 10);
    expect(model.move(stop), "an image that the device does not know").toBe(-errno.EINVAL);
    expect([...device.memory]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    model.write(new Uint8Array(10).fill(7), 0, 10);
    expect(model.move(running)).toBe(0);
    expect([...device.memory]).toEqual(Array(10).fill(7));
  });

  it("of nothing leaves the device as it was", () => {
    const { device, model } = make();
    bring(model, resuming);
    expect(model.move(running)).toBe(0);
    expect(device.log).not.toContain("commit");
    bring(model, resuming);
    model.write(new Uint8Array(4), 0, 4);
    model.reset();
    expect(model.state).toBe(running);
    bring(model, resuming);
    model.write(new Uint8Array(10).fill(8), 0, 10);
    expect(model.move(stop), "nothing is left of the stream before the reset").toBe(0);
    expect([...device.memory]).toEqual(Array(10).fill(8));
  });
});
