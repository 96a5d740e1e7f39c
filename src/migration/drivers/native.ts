import { readU53 } from "../../base/struct.ts";
import type { MigrationSink, VfioDevice } from "../../device/vfio-device.ts";
import { driverSections, sectionBytesMax } from "../../spec/ferry-stream.ts";
import { Feature, FeatureFlags, FeatureMigState, MigState } from "../../spec/vfio.ts";
import { viewOf } from "../../sys/libc.ts";
import type { Compatibility, MigrationDriver, Phase, Section } from "../driver.ts";
import { compare, identityOf, shapeOf } from "../identity.ts";
import type { Planes } from "../planes.ts";
import { ended } from "../step.ts";

const image = driverSections;
const { set, get, probe } = FeatureFlags.mask;
/** A change of the device's state is one call; this is for one that takes its time. */
const budgetMs = 500;

/** Takes what a device gives or lends, in one buffer that is used again and again. */
class SectionSink implements MigrationSink {
  readonly bytes = new Uint8Array(sectionBytesMax);
  readonly at = 0;
  address = 0;

  lend(address: number): void {
    this.address = address;
  }
}

/** Can the device migrate without a driver of a vendor's? */
export function isNative(device: VfioDevice): boolean {
  const bytes = new Uint8Array(FeatureMigState.size);
  return device.feature(probe | get | Feature.migration, bytes, 0, 8, 8) >= 0;
}

/**
 * For a device that has VFIO's migration itself: a model that is all state, a device of the
 * kernel's, a remote one. The driver does what a VMM would do, and its sections are the device's
 * own stream.
 */
export class NativeDriver implements MigrationDriver {
  readonly compatibility: Compatibility;
  readonly passesOn: boolean;
  readonly sectionNames: Readonly<Record<number, string>> = { [image]: "image" };
  readonly flags = 0;
  readonly native = true;
  readonly pending = { initialBytes: 0, dirtyBytes: 0 };
  readonly freeze: Phase = { budgetMs, run: () => ended(0), undo: () => ended(0) };
  readonly quiesce = this.#states(MigState.stop, MigState.running);
  readonly save = this.#states(MigState.stopCopy, MigState.stop);
  readonly load = this.#states(MigState.stop, MigState.resuming);
  readonly thaw = this.#states(MigState.running, MigState.stop);
  readonly #device: VfioDevice;
  readonly #sink = new SectionSink();
  readonly #word = new Uint8Array(FeatureMigState.size);
  readonly #view = new DataView(this.#word.buffer);
  #receiving = false;
  #saving = false;

  /**
   * A VMM reaches the guest's plane, and it is its migration that is asked for here. A device whose
   * stream is one of ours is `passedOn` with what that says of itself.
   */
  constructor({ guest }: Planes, passedOn: Compatibility | null = null) {
    this.#device = guest;
    this.passesOn = passedOn !== null;
    this.compatibility = passedOn ?? {
      ...identityOf(guest),
      driver: "native",
      version: 1,
      oldestVersion: 1,
      facts: { ...shapeOf(guest), "state bytes": this.stopCopyBytes },
    };
  }

  judge(theirs: Compatibility): string | null {
    return compare(this.compatibility, theirs);
  }

  /** A phase that is a change of the device's own state. */
  #states(there: MigState, back: MigState): Phase {
    return {
      budgetMs,
      run: () => ended(this.#setState(there)),
      undo: () => ended(this.#setState(back)),
    };
  }

  #setState(deviceState: MigState): number {
    FeatureMigState.set(this.#view, 0, { deviceState, dataFd: -1 });
    const { size } = FeatureMigState;
    const result = this.#device.feature(set | Feature.migDeviceState, this.#word, 0, size, size);
    if (result < 0) return result;
    this.#receiving = deviceState === MigState.resuming;
    this.#saving = deviceState === MigState.stopCopy;
    return 0;
  }

  track(): number {
    return 0;
  }

  get stopCopyBytes(): number {
    const flags = get | Feature.migDataSize;
    const bytes = new Uint8Array(8);
    const result = this.#device.feature(flags, bytes, 0, bytes.length, bytes.length);
    return result < 0 ? 0 : readU53(new DataView(bytes.buffer), 0);
  }

  next(): Section | null {
    const sink = this.#sink;
    sink.address = 0;
    const count = this.#device.readMigration(sink, sectionBytesMax);
    if (count <= 0) return null;
    const { address } = sink;
    const lent =
      address === 0 ? sink.bytes.subarray(0, count) : new Uint8Array(viewOf(address, count));
    return { kind: image, version: 1, optional: false, bytes: lent, address };
  }

  accept({ kind, bytes, optional }: Section): string | null {
    if (kind !== image && !this.passesOn)
      return optional ? null : "it is no part of this device's state";
    const entered = this.#receiving ? 0 : this.#setState(MigState.resuming);
    const result = entered < 0 ? entered : this.#device.writeMigration(bytes, 0, bytes.length);
    return result < 0 ? "the device takes no more of it" : null;
  }

  check(): string | null {
    return this.#receiving ? null : "the stream has no image";
  }

  /** RESUMING is given up by a reset only (vfio.h); the device stands still afterwards. */
  discard(): void {
    if (this.#receiving) this.#device.reset();
    if (this.#receiving || this.#saving) this.#setState(MigState.stop);
  }

  wasReset(): void {
    this.#receiving = false;
    this.#saving = false;
  }
}
