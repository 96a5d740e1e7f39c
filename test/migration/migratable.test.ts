import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { deferred } from "../../src/device/vfio-device.ts";
import { HelloDevice } from "../../src/devices/hello/hello.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { Migratable } from "../../src/migration/migratable.ts";
import { ConfigHeader } from "../../src/spec/pci.ts";
import {
  Feature,
  FeatureFlags,
  FeatureMigState,
  IrqSetFlags,
  MigrationFlags,
  MigState,
  PciIrq,
  PciRegion,
} from "../../src/spec/vfio.ts";
import { createEventfd, drainEventfd } from "../../src/sys/descriptors.ts";
import { type Arrival, load, move, readAll, save, TestClock } from "./operator.ts";
import { fails, forEver, ScriptedDriver } from "./scripted-driver.ts";

const { running, stop, stopCopy, resuming, preCopy, runningP2p, error } = MigState;

function make(flags = 0) {
  const hello = new HelloDevice(false, true);
  const planes = { guest: hello, control: hello, memory: new GuestMemory() };
  const driver = new ScriptedDriver(flags);
  const clock = new TestClock();
  const device = new Migratable(planes, driver, clock.now);
  const go = (to: number): Arrival => move(device, to, () => void clock.ms++);
  const names = ({ report }: Arrival) => report.phases.map(({ phase }) => phase);
  return { hello, driver, clock, device, go, names };
}

const config = (device: Migratable, at: number, count: number): number => {
  const bytes = new Uint8Array(4);
  device.read(PciRegion.config, at, bytes, 0, count);
  return new DataView(bytes.buffer).getUint32(0, true);
};

function setConfig(device: Migratable, at: number, value: number, count: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  device.write(PciRegion.config, at, bytes, 0, count);
}

const scratch = (device: Migratable, value: number): number =>
  device.write(PciRegion.bar0, 0x2c, Uint8Array.of(value, 0, 0, 0), 0, 4);

function setState(device: Migratable, deviceState: number): number {
  const bytes = new Uint8Array(FeatureMigState.size);
  FeatureMigState.set(new DataView(bytes.buffer), 0, { deviceState, dataFd: -1 });
  const flags = FeatureFlags.mask.set | Feature.migDeviceState;
  return device.feature(flags, bytes, 0, bytes.length, bytes.length);
}

describe("an interrupt line that is held back", () => {
  it("is let be when the operator lets go of the device", () => {
    const { hello, device } = make();
    const trigger = createEventfd();
    const [bytes, flag] = [new Uint8Array(0), IrqSetFlags.mask];
    const vector = { index: PciIrq.intx, start: 0, count: 1, bytes, boolsAt: 0, fds: [trigger] };
    device.setIrqs({ ...vector, data: flag.dataEventfd, action: flag.actionTrigger });
    device.claim();
    device.holdLine(true);
    hello.interrupts.setLine(true);
    expect(drainEventfd(trigger)).toBe(0);
    device.release();
    expect(drainEventfd(trigger)).toBe(1);
    device.detach();
  });
});

describe("the phases of a driver", () => {
  it("run in the order of a migration, and those of the way back", () => {
    const { device, driver, go, names } = make();
    device.claim();
    expect(names(go(stopCopy))).toEqual(["freeze", "quiesce", "save"]);
    expect(names(go(running))).toEqual(["thaw", "undo freeze"]);
    expect(driver.log).toEqual(["freeze", "quiesce", "save", "untrack", "thaw", "undo freeze"]);
  });

  it("freeze before P2P, and quiesce behind it", () => {
    const { device, go, names } = make(MigrationFlags.mask.p2p | MigrationFlags.mask.preCopy);
    device.claim();
    expect(names(go(runningP2p))).toEqual(["freeze"]);
    expect(scratch(device, 1)).toBe(0);
    expect(names(go(stop))).toEqual(["quiesce"]);
    expect(names(go(running))).toEqual(["thaw", "undo freeze"]);
    expect(names(go(preCopy))).toEqual([]);
    expect(names(go(stopCopy))).toEqual(["freeze", "quiesce", "save"]);
  });

  it.each(["freeze", "quiesce", "save"] as const)("%s that fails is undone", (phase) => {
    const { device, driver, go, names } = make(MigrationFlags.mask.preCopy);
    device.claim();
    go(preCopy);
    driver.script[phase] = fails;
    const before = ["freeze", "quiesce", "save"];
    const upTo = before.slice(0, before.indexOf(phase) + 1);
    const arrival = go(stopCopy);
    expect(arrival.result).toBe(-errno.EIO);
    expect(names(arrival)).toEqual([...upTo, ...upTo.toReversed().map((each) => `undo ${each}`)]);
    expect(device.migrationState).toBe(preCopy);
    expect(scratch(device, 7)).toBe(0);
    expect(device.read(PciRegion.bar0, 0x2c, new Uint8Array(4), 0, 4)).toBe(0);
  });

  it.each(["freeze", "quiesce", "save"] as const)(
    "%s that never ends ends with its budget",
    (phase) => {
      const { device, driver, go, clock } = make();
      device.claim();
      driver.script[phase] = forEver;
      expect(go(stopCopy).result).toBe(-errno.ETIMEDOUT);
      expect(driver.log).toContain(`cut ${phase}`);
      expect(clock.ms).toBeLessThan(100);
      expect(device.migrationState).toBe(phase === "save" ? stop : running);
    },
  );

  it("that cannot be undone either leaves ERROR, which a reset ends", () => {
    const { device, driver, go } = make();
    device.claim();
    driver.script["quiesce"] = fails;
    driver.script["undo freeze"] = forEver;
    expect(go(stop).result).toBe(-errno.EIO);
    expect(device.migrationState).toBe(error);
    expect(go(running).result).toBe(-errno.EINVAL);
    expect(device.reset()).toBe(0);
    expect(device.migrationState).toBe(running);
  });

  it("a reset of the guest's in the middle of one wins", () => {
    const { device, driver, clock } = make();
    device.claim();
    driver.script["quiesce"] = forEver;
    const arrival = move(device, stop, (turn) => {
      clock.ms += 0.1;
      if (turn === 5) device.reset();
    });
    expect(arrival.result).toBe(-errno.ECANCELED);
    expect(device.migrationState).toBe(running);
    expect(driver.log).toEqual(["freeze", "quiesce", "cut quiesce", "was reset"]);
    expect(device.resets).toBe(1);
    expect(scratch(device, 1)).toBe(0);
  });

  it("a function-level reset counts like any other", () => {
    const { device, hello, go } = make();
    device.claim();
    go(stopCopy);
    const at = hello.config.find("pcie")?.at ?? 0;
    setConfig(device, at + 8, 0x8000, 2);
    expect(device.migrationState).toBe(running);
    expect(device.resets).toBe(1);
  });
});

describe("the guest's doorbells", () => {
  it("are looked at until its plane is closed, and again once it is open", () => {
    const doorbell = { fd: 1, doorbell: true, ready: () => {} };
    const answers = { fd: 2, ready: () => {} };
    const { device, driver, hello, go } = make();
    const all = [doorbell, answers];
    Object.defineProperty(hello, "watches", { value: all });
    expect(device.watches).toEqual(all);
    device.claim();
    driver.script["freeze"] = { turns: 3 };
    move(device, stop, () => expect(device.watches).toEqual([answers]));
    expect(device.watches).toEqual([]);
    go(running);
    expect(device.watches).toEqual(all);
  });
});

describe("a stream of a driver's", () => {
  it("carries its sections and the configuration space, which is written on the target", () => {
    const [a, b] = [make(), make()];
    setConfig(a.device, ConfigHeader.at.COMMAND, 0x0406, 2);
    setConfig(a.device, ConfigHeader.at.BAR0, 0xfe00_0000, 4);
    setConfig(a.device, ConfigHeader.at.INTERRUPT_LINE, 11, 1);
    a.driver.out = [];
    a.device.claim();
    a.go(stopCopy);
    a.driver.out = [Uint8Array.of(1, 2, 3)];
    const stream = readAll(a.device);
    expect(load(b.device, stream).result).toBe(0);
    expect(b.driver.log).toEqual(["freeze", "quiesce", "load"]);
    expect(config(b.device, ConfigHeader.at.COMMAND, 2)).toBe(0x0406);
    expect(config(b.device, ConfigHeader.at.BAR0, 4)).toBe(0xfe00_0000);
    expect(config(b.device, ConfigHeader.at.INTERRUPT_LINE, 1)).toBe(11);
  });

  it("that is refused changes nothing, and another one can be sent", () => {
    const [a, b] = [make(), make()];
    setConfig(a.device, ConfigHeader.at.INTERRUPT_LINE, 11, 1);
    const empty = save(a.device);
    expect(load(b.device, empty).result).toBe(-errno.EINVAL);
    expect(b.device.refusal).toBe("nothing came");
    expect(config(b.device, ConfigHeader.at.INTERRUPT_LINE, 1)).toBe(0);
    expect(b.device.migrationState).toBe(resuming);
    expect(b.driver.log).not.toContain("load");
  });

  it("whose load fails is undone, and the state is RESUMING again", () => {
    const [a, b] = [make(), make()];
    a.device.claim();
    a.go(stopCopy);
    a.driver.out = [Uint8Array.of(1)];
    const stream = readAll(a.device);
    b.driver.script["load"] = fails;
    expect(load(b.device, stream).result).toBe(-errno.EIO);
    expect(b.driver.log.slice(-2)).toEqual(["load", "undo load"]);
    expect(b.device.migrationState).toBe(resuming);
    delete b.driver.script["load"];
    expect(load(b.device, stream).result).toBe(0);
  });
});

describe("an abort", () => {
  it("of a device that was stopped lets it go on", () => {
    const { device, driver, go } = make();
    device.claim();
    go(stopCopy);
    device.abort(() => {});
    device.work();
    expect(device.migrationState).toBe(running);
    expect(driver.log.slice(-2)).toEqual(["thaw", "undo freeze"]);
    expect(device.resets).toBe(0);
  });

  it("of a device with another one's state resets it: the other one may still run", () => {
    const [a, b] = [make(), make()];
    a.device.claim();
    a.go(stopCopy);
    a.driver.out = [Uint8Array.of(1)];
    expect(load(b.device, readAll(a.device)).result).toBe(0);
    b.device.abort(() => {});
    expect(b.device.migrationState).toBe(running);
    expect(b.driver.log.slice(-2)).toEqual(["load", "was reset"]);
    expect(b.driver.taken).toEqual([]);
    expect(b.device.resets).toBe(0);
  });
});

describe("a VMM that migrates a device", () => {
  it("gets its answer later when a phase takes several turns, and EBUSY meanwhile", () => {
    const { device, driver } = make();
    driver.script["quiesce"] = { turns: 3 };
    expect(setState(device, stop)).toBe(deferred);
    expect(device.moving).toBe(true);
    expect(setState(device, running)).toBe(-errno.EBUSY);
    expect(device.settle()).toBe(deferred);
    for (let turn = 0; turn < 5; turn++) device.work();
    expect(device.settle()).toBe(0);
    expect(device.moving).toBe(false);
    expect(device.master).toBe("vmm");
    expect(device.claim()).toBe(-errno.EBUSY);
    expect(setState(device, running)).toBe(FeatureMigState.size);
    expect(device.master).toBe("none");
  });

  it("cannot reach what the operator migrates", () => {
    const { device } = make();
    device.claim();
    expect(setState(device, stop)).toBe(-errno.EBUSY);
    expect(device.writeMigration(new Uint8Array(1), 0, 1)).toBe(-errno.EBUSY);
    const sink = { bytes: new Uint8Array(1), at: 0, lend: () => {} };
    expect(device.readMigration(sink, 1)).toBe(-errno.EBUSY);
  });
});
