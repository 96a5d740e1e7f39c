/** A VF whose guest memory lies between pages that the device has no business with. */
import { readSync, writeSync } from "node:fs";
import { ComputePool } from "../../../../src/devices/hisi-acc/compute.ts";
import type { Engine } from "../../../../src/devices/hisi-acc/engine.ts";
import { defaultConfiguration } from "../../../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../../../src/devices/hisi-acc/qm/pf.ts";
import type { QueueManager } from "../../../../src/devices/hisi-acc/qm/queue-manager.ts";
import { duplicate } from "../../../../src/sys/descriptors.ts";
import { Guest, Vmm } from "../../../device/vmm.ts";
import { base, Driver } from "../qm/driver.ts";

const guardBytes = 1 << 20;
const canary = 0xa5;

/** Guest memory with a canary before and behind what is mapped of its file. */
export class GuardedGuest extends Guest {
  readonly mappedBytes: number;

  constructor(iova: number, size: number) {
    super(iova, size + 2 * guardBytes);
    this.mappedBytes = size;
    const guard = Buffer.alloc(guardBytes, canary);
    for (const at of [0, guardBytes + size]) writeSync(this.fd, guard, 0, guardBytes, at);
  }

  override read(iova: number, length: number): Buffer {
    return super.read(iova + guardBytes, length);
  }

  override write(iova: number, bytes: Uint8Array): void {
    super.write(iova + guardBytes, bytes);
  }

  map(vf: QueueManager): number {
    const { iova, fd, mappedBytes: size } = this;
    const access = { readable: true, writable: true, mayMap: true };
    return vf.mapDma({ iova, size, fd: duplicate(fd), offset: guardBytes, ...access });
  }

  /** Bytes of the guards that are not what they were. */
  get touched(): number {
    const guard = Buffer.alloc(guardBytes);
    let count = 0;
    for (const at of [0, guardBytes + this.mappedBytes]) {
      readSync(this.fd, guard, 0, guardBytes, at);
      for (const byte of guard) if (byte !== canary) count += 1;
    }
    return count;
  }
}

export interface Target {
  readonly vf: QueueManager;
  readonly vmm: Vmm;
  readonly guest: GuardedGuest;
  readonly driver: Driver;
  readonly compute: ComputePool;
}

/** A VF with a real engine and real compute threads. */
export function makeTarget(engine: Engine, memoryBytes = 8 << 20, queues = 64): Target {
  const compute = new ComputePool();
  const configuration = { ...defaultConfiguration, queues };
  const vf = new Pf().createVf({ engine, compute, configuration });
  const vmm = new Vmm(vf);
  const guest = new GuardedGuest(base, memoryBytes);
  if (guest.map(vf) !== 0) throw new Error("no guest memory");
  return { vf, vmm, guest, compute, driver: new Driver(vmm, guest) };
}

/** Slices until the device has nothing to do; more than `most` is an error. */
export function slicesOf({ vf }: Pick<Target, "vf">, most: number): number {
  let slices = 0;
  for (; vf.busy; slices++) {
    if (slices > most) throw new Error(`more than ${most} slices`);
    vf.work();
  }
  return slices;
}
