/** The three accelerators as their modules make them, with drivers that know nothing of a move. */
import { describe, expect, it } from "vitest";
import { GuestRam } from "../../../src/client/guest-ram.ts";
import { MovableDevice } from "../../../src/client/movable-device.ts";
import * as hpre from "../../../src/devices/hisi-hpre/index.ts";
import * as sec2 from "../../../src/devices/hisi-sec2/index.ts";
import * as zip from "../../../src/devices/hisi-zip/index.ts";
import type { Trial } from "../../../src/guest/work.ts";
import { openWorkload } from "../../../src/guest/workloads.ts";
import { hisiAcc } from "../../../src/migration/drivers/hisi-acc/driver.ts";
import { Migratable } from "../../../src/migration/migratable.ts";
import type { Planes } from "../../../src/migration/planes.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { load, move, readAll } from "../operator.ts";
import { controls } from "./bench.ts";

const memoryBytes = 32 << 20;
const trialsMax = 16;
const { running, stopCopy } = MigState;

const never = new Int32Array(new SharedArrayBuffer(4));

/** As a server that polls between turns, and sleeps a little where there is nothing to do. */
function moved(device: Migratable, to: number) {
  return move(device, to, () => {
    for (const watch of device.watches) watch.ready();
    if (!device.planes.control.busy) Atomics.wait(never, 0, 0, 1);
  });
}

describe.each([
  ["hisi-sec2", sec2],
  ["hisi-zip", zip],
  ["hisi-hpre", hpre],
] as const)("%s", (name, module) => {
  const make = (options: Record<string, string>): Migratable => {
    const planes: Planes = module.planes({ queues: "4", ...options });
    // However slow the machine is, no budget is used up.
    return new Migratable(planes, hisiAcc.create(planes), () => 0);
  };

  it.each(
    controls.flatMap((control) => [
      [control, true],
      [control, false],
    ]),
  )("moves in the middle of its work (%s, shared memory: %s)", (control, sharedMemory) => {
    const here = make({ control: String(control) });
    const there = make({ control: String(control) });
    const device = new MovableDevice(here);
    const shared = sharedMemory === true;
    const workload = openWorkload(device, { memoryBytes, sharedMemory: shared, depth: 8 });
    const { qm, works } = workload;
    const trials: Trial[] = [];
    for (const work of works.slice(0, trialsMax)) {
      for (let i = 0; i < Math.min(2, qm.depth); i++) {
        trials.push(work.start());
        if (trials.length % 3 === 0) device.work();
        while (trials.filter(({ call }) => !call.done).length >= qm.depth) qm.poll();
      }
    }
    here.claim();
    expect(moved(here, stopCopy), name).toMatchObject({ result: 0 });
    const stream = readAll(here);
    const ram = new GuestRam(memoryBytes);
    qm.memory.ram.copyTo(ram);
    expect(load(there, stream), there.refusal).toMatchObject({ result: 0 });
    expect(qm.memory.ram.mapThere(there, ram)).toBe(0);
    expect(device.wireThere(there)).toBe(0);
    qm.memory.ram.moveTo(ram);
    device.moveTo(there).detach();
    expect(moved(there, running)).toMatchObject({ result: 0 });
    for (const trial of trials) {
      while (!trial.call.done) qm.poll();
      expect(trial.call.failure).toBe(null);
      expect(trial.correct()).toBe(true);
    }
    for (const work of works) {
      const trial = work.start();
      while (!trial.call.done) qm.poll();
      expect(trial.correct(), work.name).toBe(true);
    }
    qm.close();
  });

  it("takes one of two ways to be migrated", () => {
    expect(() => make({ control: "both" })).toThrow("control=both is neither own nor silicon");
  });

  it("is compatible with one of the same shape only, and says why", () => {
    const { driver } = make({});
    expect(driver.judge(make({ control: "silicon" }).compatibility)).toBe(null);
    expect(driver.judge(make({ queues: "8" }).compatibility)).toContain("queues is 8 there and 4");
    expect(driver.judge(make({ depth: "64" }).compatibility)).toContain("capabilities is 0x");
    expect(driver.judge(make({ vectors: "single" }).compatibility)).toContain("capabilities");
  });
});
