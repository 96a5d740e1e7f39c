/** The contract that every migration driver has to keep, held against HiSilicon's. */
import { describe, test } from "vitest";
import { Carve } from "../../../src/device/carve.ts";
import { defaultConfiguration } from "../../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../../src/devices/hisi-acc/qm/pf.ts";
import { type ContractSubject, driverContract } from "../../../src/migration/contract/index.ts";
import { hisiAcc } from "../../../src/migration/drivers/hisi-acc/driver.ts";
import { guestBarBytes, qmBar } from "../../../src/spec/hisi-qm.ts";
import { Vmm } from "../../device/vmm.ts";
import { ManualCompute } from "../../devices/hisi-acc/qm/xor-engine.ts";
import {
  arrive,
  boot,
  type Control,
  controls,
  Engine,
  type Host,
  type Machine,
} from "../hisi-acc/bench.ts";

const requests = 3;
const key = 0x55;

/** A VF whose guest has requests waiting in two queues. */
class Subject implements ContractSubject {
  readonly kind = hisiAcc;
  readonly planes;
  machine: Machine | null = null;
  readonly #host: Host;

  constructor(control: Control) {
    const pf = new Pf({ queueBase: 0x100 });
    const configuration = {
      ...defaultConfiguration,
      ...{ queues: 16, controlMailbox: control === "own" },
    };
    const vf = pf.createVf({ engine: new Engine(), compute: new ManualCompute(), configuration });
    const guest = new Carve(vf, { bar: qmBar, size: guestBarBytes, bits: vf.carvedBits });
    this.planes = { guest, control: vf, memory: vf.memory, broker: pf.broker(1) };
    this.#host = { vmm: new Vmm(guest) } as Host;
  }

  exercise(): void {
    this.planes.guest.unmapAllDma();
    const machine = boot(this.#host, [
      [0, 4],
      [9, 8],
    ]);
    this.machine = machine;
    for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
    this.#serve(machine, 1);
    const buffer = machine.driver.allocate(4096);
    machine.guest.write(buffer, Buffer.alloc(16, 0x20));
    for (const pair of machine.pairs) {
      for (let i = 0; i < requests; i++) pair.submit(buffer, buffer + 16 * (1 + i), 16, key);
    }
  }

  #serve({ host, driver, pairs }: Machine, each: number): void {
    host.vmm.run();
    driver.events();
    for (const pair of pairs) {
      const { length } = pair.poll();
      if (length !== each) throw new Error(`${length} requests ended, not ${each}`);
    }
  }

  /** In the end the device takes new work, too. */
  verify(): void {
    const { machine } = this;
    if (machine === null) throw new Error("it has no guest");
    this.#serve(machine, requests);
    for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
    this.#serve(machine, 1);
    if (machine.driver.errors().length > 0) throw new Error("there are errors");
  }

  clean(): void {
    this.#host.vmm.run();
    this.planes.guest.unmapAllDma();
    const machine = boot(this.#host);
    for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
    this.#serve(machine, 1);
  }

  adopt(source: ContractSubject): void {
    const from = (source as Subject).machine;
    this.planes.guest.unmapAllDma();
    if (from !== null) this.machine = arrive(from, this.#host);
  }
}

describe.each(controls)("with control=%s", (control) => {
  for (const { name, run } of driverContract(() => new Subject(control), { spoiltMax: 24 }))
    test(name, run);
});
