import { errno } from "../base/errno.ts";
import { DeviceFeatures } from "../device/device-features.ts";
import { isRunning, isSaving, MigrationStates } from "../device/migration-states.ts";
import { deferred, type MigrationSink, type Watch, type Wiring } from "../device/vfio-device.ts";
import { Wrapper } from "../device/wrapper.ts";
import {
  Feature,
  FeatureFlags,
  FeatureMigState,
  MigrationFlags,
  MigState,
  PciRegion,
} from "../spec/vfio.ts";
import type { Compatibility, MigrationDriver, Pending } from "./driver.ts";
import { Move, type OwnActions } from "./move.ts";
import { ResetWatch } from "./pci-state.ts";
import type { Planes } from "./planes.ts";
import type { MigrationStatus, MoveReport } from "./port.ts";
import { QuietWatches } from "./quiet-watches.ts";
import { Seal } from "./seal.ts";
import { Stream } from "./stream.ts";

/** Who owns a device's migration. */
export type Master = MigrationStatus["master"];

/** Told once a move is over: 0, or why it failed. */
export type Arrived = (result: number, report: MoveReport) => void;

const noWatches: readonly Watch[] = [];
const setState = FeatureFlags.mask.set | Feature.migDeviceState;

/**
 * A device with a migration driver: VFIO's migration, version 2, over the device's control plane.
 * The VMM drives it by DEVICE_FEATURE or the operator by `move`, one of them at a time. The guest's
 * plane is closed before anything is read that must not change any more.
 */
export class Migratable extends Wrapper {
  readonly planes: Planes;
  readonly driver: MigrationDriver;
  readonly #states: MigrationStates;
  readonly #stream: Stream;
  readonly #resetWatch: ResetWatch;
  readonly #features: DeviceFeatures;
  readonly #now: () => number;
  #state: MigState = MigState.running;
  #master: Master = "none";
  #closed = false;
  /** Was a stream's state put into the device, and has it not run since? */
  #loaded = false;
  #move: Move | null = null;
  #arrived: Arrived | null = null;
  #vmmResult: number = deferred;
  #refusal = "";
  #streams = 0;
  readonly #quiet = new QuietWatches();
  readonly #seal: Seal;
  #resetWaits = false;

  /** `now` is a monotonic clock, in milliseconds; who shares the seal may close it. */
  constructor(planes: Planes, driver: MigrationDriver, now: () => number, seal = new Seal()) {
    super(planes.guest);
    this.#seal = seal;
    this.planes = planes;
    this.driver = driver;
    this.#now = now;
    this.#states = new MigrationStates(MigrationFlags.mask.stopCopy | driver.flags);
    this.#stream = new Stream(driver, planes.guest);
    this.#resetWatch = new ResetWatch(planes.guest);
    const self = this;
    this.#features = new DeviceFeatures(
      {
        flags: this.#states.flags,
        get state() {
          return self.#state;
        },
        get stopCopyBytes() {
          return driver.stopCopyBytes;
        },
        get pending() {
          return driver.pending;
        },
        move: (to) => this.#moveForVmm(to),
        compatibility: JSON.stringify(driver.compatibility),
      },
      planes.memory,
    );
  }

  get migrationState(): MigState {
    return this.#state === MigState.running ? this.#deviceState : this.#state;
  }

  get master(): Master {
    return this.#master === "none" && this.#deviceState !== MigState.running ? "vmm" : this.#master;
  }

  /** Resets from the guest's side since the device was made. */
  get resets(): number {
    return this.#seal.resets;
  }

  /** Why the last stream was refused, as a sentence; empty when none was. */
  get refusal(): string {
    return this.#refusal;
  }

  get compatibility(): Compatibility {
    return this.driver.compatibility;
  }

  get pending(): Pending {
    return this.driver.pending;
  }

  get stopCopyBytes(): number {
    return this.driver.stopCopyBytes;
  }

  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (this.#closed && region !== PciRegion.config) return -errno.EIO;
    return this.inner.read(region, offset, bytes, at, count);
  }

  /** While the guest's plane is closed a write to a BAR has no effect. */
  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region !== PciRegion.config) {
      return this.#closed ? 0 : this.inner.write(region, offset, bytes, at, count);
    }
    const resets = this.#resetWatch.asks(offset, bytes, at, count);
    if (resets && this.#holdReset()) return 0;
    const result = this.inner.write(region, offset, bytes, at, count);
    if (resets && result >= 0) this.#afterReset();
    return result;
  }

  override reset(): number {
    if (this.#holdReset()) return 0;
    const result = this.inner.reset();
    if (result >= 0) this.#afterReset();
    return result;
  }

  /**
   * Back to RUNNING for the operator, from any state that no move is leaving: a device that was
   * stopped goes on, one that a stream has reached is reset.
   */
  abort(arrived: Arrived): void {
    const clean = this.#state !== MigState.resuming && this.#state !== MigState.error;
    if (clean && !this.#loaded) this.move(MigState.running, arrived);
    else {
      const result = Math.min(0, this.inner.reset());
      if (result === 0) this.#forget();
      arrived(result, { state: this.#state, phases: [] });
    }
  }

  /** A reset that comes when the state may already be another host's is noted, and not counted. */
  #holdReset(): boolean {
    const counted = this.#seal.count();
    if (!counted) this.#resetWaits = true;
    return !counted;
  }

  /** A reset ends whatever was under way, and leaves a running device (vfio.h). */
  #afterReset(): void {
    const move = this.#move;
    move?.cut();
    this.#forget();
    if (move !== null) this.#arrive(move);
    if (this.#master === "vmm") this.#master = "none";
  }

  /** The function is as after power-on. */
  #forget(): void {
    this.driver.wasReset?.();
    this.#stream.end();
    this.#state = MigState.running;
    this.#closed = false;
    this.#loaded = false;
  }

  /**
   * From here on a reset of the guest's is noted, not done, because the device may be another
   * host's; or such a one is made up for. False when there was a reset since `resets` was `known`.
   */
  seal(on: boolean, known: number): boolean {
    if (on && !this.#seal.close(known)) return false;
    if (!on) this.#seal.open();
    const waits = this.#resetWaits;
    this.#resetWaits = false;
    if (!on && waits) this.reset();
    return true;
  }

  /** Takes the migration over for the operator: EBUSY when the VMM has it. */
  claim(): number {
    if (this.#master === "vmm" || this.#deviceState !== MigState.running) return -errno.EBUSY;
    this.#master = "operator";
    return 0;
  }

  /** Of a device that has VFIO's migration itself, the state that a VMM may have brought it to. */
  get #deviceState(): MigState {
    if (!this.driver.native || this.#state !== MigState.running) return MigState.running;
    const bytes = new Uint8Array(FeatureMigState.size);
    const flags = FeatureFlags.mask.get | Feature.migDeviceState;
    this.inner.feature(flags, bytes, 0, bytes.length, bytes.length);
    return FeatureMigState.get(new DataView(bytes.buffer), 0).deviceState as MigState;
  }

  release(): void {
    if (this.#master !== "operator") return;
    this.#master = "none";
    this.holdLine(false);
  }

  /** Moves to a state for the operator; `arrived` is told, at once or in a later turn. */
  move(to: number, arrived: Arrived): void {
    const result = this.#master === "operator" ? this.#begin(to, arrived) : -errno.EPERM;
    if (result < 0) arrived(result, { state: this.#state, phases: [] });
  }

  #moveForVmm(to: number): number {
    if (this.#master === "operator") return -errno.EBUSY;
    let result: number = deferred;
    const begun = this.#begin(to, (ended) => {
      result = ended;
      this.#vmmResult = ended;
    });
    if (begun < 0) return begun;
    this.#master = this.#state === MigState.running && this.#move === null ? "none" : "vmm";
    return result;
  }

  override settle(): number {
    const result = this.#vmmResult;
    this.#vmmResult = deferred;
    return result;
  }

  #begin(to: number, arrived: Arrived): number {
    if (this.#move !== null) return -errno.EBUSY;
    const path = this.#states.path(this.#state, to);
    if (typeof path === "number") return path;
    this.#move = new Move(this.#state, path, this.driver, this.#own, this.#now);
    this.#arrived = arrived;
    this.#vmmResult = deferred;
    this.#stepMove();
    return 0;
  }

  #stepMove(): void {
    const move = this.#move;
    if (move?.step() === true) {
      this.#state = move.state;
      this.#arrive(move);
    }
  }

  #arrive(move: Move): void {
    const arrived = this.#arrived;
    this.#move = null;
    this.#arrived = null;
    if (this.#master === "vmm" && this.#state === MigState.running) this.#master = "none";
    arrived?.(move.failure, { state: this.#state, phases: move.reports });
  }

  /** What is the wrapper's own to do on the way. */
  readonly #own: OwnActions = {
    close: () => this.#setClosed(true),
    open: () => this.#setClosed(false),
    begin: () => {
      this.#streams += 1;
      this.#stream.begin(this.#streams);
      return 0;
    },
    receive: () => {
      this.#stream.receive();
      return 0;
    },
    end: () => {
      this.#stream.end();
      this.#loaded = false;
      return 0;
    },
    track: () => this.driver.track(true),
    untrack: () => this.driver.track(false),
    check: () => this.#check(),
    commit: () => {
      this.#stream.commit();
      this.#loaded = true;
      return 0;
    },
  };

  #setClosed(closed: boolean): number {
    this.#closed = closed;
    return 0;
  }

  #check(): number {
    const said = this.#stream.check();
    this.#refusal = said ?? "";
    return said === null ? 0 : -errno.EINVAL;
  }

  override feature(
    flags: number,
    bytes: Uint8Array,
    at: number,
    length: number,
    capacity: number,
  ): number {
    if (!this.driver.native) return this.#features.serve(flags, bytes, at, length, capacity);
    const sets = (flags & (FeatureFlags.mask.index | FeatureFlags.mask.set)) === setState;
    const probes = (flags & FeatureFlags.mask.probe) !== 0;
    if (sets && !probes && this.#master === "operator") return -errno.EBUSY;
    return this.inner.feature(flags, bytes, at, length, capacity);
  }

  /** The VMM's way to the stream. */
  override readMigration(sink: MigrationSink, length: number): number {
    if (this.#master === "operator") return -errno.EBUSY;
    if (this.driver.native) return this.inner.readMigration(sink, length);
    return this.readStream(sink, length);
  }

  override writeMigration(bytes: Uint8Array, at: number, length: number): number {
    if (this.#master === "operator") return -errno.EBUSY;
    if (this.driver.native) return this.inner.writeMigration(bytes, at, length);
    return this.writeStream(bytes, at, length);
  }

  /** As `readMigration`, for whoever owns the migration; `uncut` as in `Stream.read`. */
  readStream(sink: MigrationSink, length: number, uncut = false): number {
    if (!isSaving(this.#state) || this.#move !== null) return -errno.EINVAL;
    return this.#stream.read(sink, length, this.#state === MigState.stopCopy, uncut);
  }

  /** As `writeMigration`, likewise; `refusal` says what is wrong with what came. */
  writeStream(bytes: Uint8Array, at: number, length: number): number {
    if (this.#state !== MigState.resuming || this.#move !== null) return -errno.EINVAL;
    const result = this.#stream.write(bytes, at, length);
    if (result < 0) this.#refusal = this.#stream.refusal ?? "";
    return result;
  }

  override get busy(): boolean {
    return this.#move !== null || (this.#runs && this.inner.busy);
  }

  override get moving(): boolean {
    return this.#move !== null;
  }

  get #runs(): boolean {
    const state = this.#state;
    return isRunning(state) || state === MigState.runningP2p || state === MigState.preCopyP2p;
  }

  override work(): void {
    if (this.inner.busy && this.busy) this.inner.work();
    const { control } = this.planes;
    if (this.#move === null) return;
    if (control !== this.inner && control.busy) control.work();
    this.#stepMove();
  }

  /**
   * A device that stands still looks at nothing; what is signalled meanwhile is found later. While
   * it is brought there it looks at everything but doorbells: they are the guest's.
   */
  override get watches(): readonly Watch[] {
    if (!this.#closed) return this.inner.watches;
    return this.#move === null ? noWatches : this.#quiet.without(this.inner.watches);
  }

  override detach(): void {
    this.inner.detach();
    if (this.#master === "vmm") this.#master = "none";
  }

  /** Only a device that runs, and that nobody migrates, goes to another process as it is. */
  override park(): Wiring | null {
    const still = this.#state === MigState.running && this.#move === null;
    return still && this.#master === "none" ? this.inner.park() : null;
  }
}
