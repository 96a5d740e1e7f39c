/**
 * The smallest device that can be migrated, and its driver: the guest counts in it, and the upper
 * page of its only BAR, which is cut away from what the guest is given, holds it still.
 */
import { errno } from "../../../src/base/errno.ts";
import { registers } from "../../../src/base/registers.ts";
import { Carve } from "../../../src/device/carve.ts";
import { PciModel } from "../../../src/device/pci-model.ts";
import type { VfioDevice } from "../../../src/device/vfio-device.ts";
import type { ContractSubject } from "../../../src/migration/contract/index.ts";
import type {
  Compatibility,
  MigrationDriver,
  Phase,
  Section,
  Step,
} from "../../../src/migration/driver.ts";
import { compare, identityOf } from "../../../src/migration/identity.ts";
import type { Planes } from "../../../src/migration/planes.ts";

const Tiny = registers("tiny", 8192, {
  NAME: { at: 0x00, access: "rw", doc: "the guest's own" },
  LEFT: { at: 0x04, access: "rw", doc: "what is still to be counted" },
  COUNT: { at: 0x08, access: "rw", doc: "what was counted" },
  PAUSE: { at: 0x1000, access: "rw", doc: "1 holds it still; out of the guest's reach" },
});
type Name = keyof typeof Tiny.at;
const state: readonly Name[] = ["NAME", "LEFT", "COUNT"];

class TinyDevice extends PciModel {
  readonly #registers = this.bank(0, Tiny, {});

  constructor() {
    super({
      name: "tiny",
      version: 1,
      vendor: 0xfe22,
      device: 0x7175,
      revision: 0,
      classCode: 0xff0000,
      interruptPin: 0,
      capabilities: [],
      bars: { 0: { size: Tiny.size, space: "memory32" } },
    });
  }

  protected override get hasWork(): boolean {
    return this.#registers.get("PAUSE") === 0 && this.#registers.get("LEFT") > 0;
  }

  protected override slice(): void {
    this.#registers.set("LEFT", this.#registers.get("LEFT") - 1);
    this.#registers.set("COUNT", this.#registers.get("COUNT") + 1);
  }
}

const word = new Uint8Array(4);
const view = new DataView(word.buffer);

export function get(device: VfioDevice, name: Name): number {
  device.read(0, Tiny.at[name], word, 0, 4);
  return view.getUint32(0, true);
}

export function set(device: VfioDevice, name: Name, value: number): void {
  view.setUint32(0, value, true);
  device.write(0, Tiny.at[name], word, 0, 4);
}

export const Kind = { head: 0x100, state: 0x101 } as const;
const sizes: Readonly<Record<number, number>> = { [Kind.head]: 1, [Kind.state]: 4 * state.length };
const section = (kind: number, bytes: Uint8Array): Section => ({
  kind,
  version: 1,
  optional: false,
  bytes,
  address: 0,
});

export class TinyDriver implements MigrationDriver {
  readonly flags = 0;
  readonly native = false;
  readonly pending = { initialBytes: 0, dirtyBytes: 0 };
  readonly stopCopyBytes = 13;
  readonly planes: Planes;
  readonly control: VfioDevice;
  out: Section[] = [];
  taken: Uint8Array[] = [];
  before: number[] = [];

  readonly freeze: Phase = {
    budgetMs: 10,
    run: () => this.pause(1),
    undo: () => this.pause(0),
  };
  readonly quiesce: Phase = { budgetMs: 10, run: () => this.pause(1), undo: () => this.pause(1) };
  readonly save: Phase = { budgetMs: 10, run: () => this.read(), undo: () => this.pause(1) };
  readonly load: Phase = {
    budgetMs: 10,
    run: () => this.put(this.values()),
    undo: () => this.put(this.before),
  };
  readonly thaw: Phase = { budgetMs: 10, run: () => this.pause(1), undo: () => this.pause(1) };

  constructor(planes: Planes) {
    this.planes = planes;
    this.control = planes.control;
  }

  get compatibility(): Compatibility {
    const driver = { driver: "tiny", version: 1, oldestVersion: 1 };
    return { ...identityOf(this.planes.guest), ...driver, facts: { counters: 1 } };
  }

  judge(theirs: Compatibility): string | null {
    return compare(this.compatibility, theirs);
  }

  *pause(level: number): Step {
    set(this.control, "PAUSE", level);
    yield;
    return 0;
  }

  *read(): Step {
    const bytes = new Uint8Array(4 * state.length);
    const all = new DataView(bytes.buffer);
    yield;
    for (const [i, name] of state.entries()) all.setUint32(4 * i, get(this.control, name), true);
    this.out = [section(Kind.head, Uint8Array.of(7)), section(Kind.state, bytes)];
    return 0;
  }

  values(): number[] {
    const bytes = this.taken[1] ?? new Uint8Array(4 * state.length);
    const all = new DataView(bytes.buffer, bytes.byteOffset);
    return state.map((_, i) => all.getUint32(4 * i, true));
  }

  *put(values: readonly number[]): Step {
    const before = state.map((name) => get(this.control, name));
    if (values !== this.before) this.before = before;
    yield;
    for (const [i, name] of state.entries()) {
      if (values[i] !== undefined) set(this.control, name, values[i]);
    }
    return 0;
  }

  track(on: boolean): number {
    return on ? -errno.EOPNOTSUPP : 0;
  }

  next(): Section | null {
    return this.out.shift() ?? null;
  }

  accept({ kind, version, optional, bytes }: Section): string | null {
    const size = sizes[kind];
    if (size === undefined) return optional ? null : "the kind is unknown";
    if (version !== 1) return "the version is unknown";
    if (bytes.length !== size) return `it has ${bytes.length} bytes`;
    if (this.taken.length !== kind - Kind.head) return "it is out of its order";
    if (kind === Kind.head && bytes[0] !== 7) return "it is another device's";
    this.taken.push(bytes.slice());
    if (kind === Kind.head) return null;
    // More than this would keep a target at work for longer than anybody waits.
    return (this.values()[1] as number) < 1000 ? null : "there is too much left to count";
  }

  check(): string | null {
    return this.taken.length === 2 ? null : "the state is not complete";
  }

  discard(): void {
    this.out = [];
    this.taken = [];
    this.before = [];
  }
}

/** A tiny device with a driver of any kind, and the guest that counts in it. */
export function tinySubject(Driver: new (planes: Planes) => MigrationDriver): ContractSubject {
  const control = new TinyDevice();
  const guest = new Carve(control, { bar: 0, size: 4096, bits: new Uint8Array(4) });
  const facts = (): string => state.map((name) => get(guest, name)).join();
  const demand = (wanted: string): void => {
    for (let turn = 0; guest.busy && turn < 1000; turn++) guest.work();
    if (facts() !== wanted) throw new Error(`it has ${facts()}, not ${wanted}`);
  };
  return {
    kind: { name: "tiny", ids: [[0xfe22, 0x7175]], create: (planes) => new Driver(planes) },
    planes: { guest, control, memory: control.memory },
    exercise() {
      set(guest, "NAME", 0x1234);
      set(guest, "COUNT", 0);
      set(guest, "LEFT", 40);
      guest.work();
    },
    verify: () => demand(`${0x1234},0,40`),
    clean: () => demand("0,0,0"),
  };
}
