import { Carve } from "../../src/device/carve.ts";
import {
  defaultConfiguration,
  type QmConfiguration,
} from "../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../src/devices/hisi-acc/qm/pf.ts";
import type { LockToken } from "../../src/devices/hisi-acc/qm/pf-lock.ts";
import type { QueueManager } from "../../src/devices/hisi-acc/qm/queue-manager.ts";
import { HisiAccDriver } from "../../src/migration/drivers/hisi-acc/driver.ts";
import type { Planes } from "../../src/migration/planes.ts";
import { EventContext, guestBarBytes, Qm, qmBar } from "../../src/spec/hisi-qm.ts";
import type { Random } from "../../test/fuzz/random.ts";
import type { Control, Life, Model } from "../kind.ts";
import { SlowEngine } from "./slow-engine.ts";

/** Rings so short that they turn within a few requests. */
const configuration: QmConfiguration = {
  ...defaultConfiguration,
  queues: 4,
  sqDepth: 8,
  cqDepth: 8,
  eqDepth: 5,
  aeqDepth: 4,
};

/** All that were made: what they have completed is counted over all of them. */
const all: Sec2Model[] = [];

/** Requests that devices have completed since this process began. */
export const completed = (): number => all.reduce((sum, each) => sum + each.completed, 0);

/** A SEC2 VF and its PF. */
export class Sec2Model implements Model {
  readonly planes: Planes;
  readonly #life: Life;
  readonly #pf: Pf;
  readonly #vf: QueueManager;
  #reset: LockToken | null = null;

  constructor(control: Control, life: Life) {
    this.#life = life;
    this.#pf = new Pf({ queueBase: 0x100, now: life.now });
    const engine = new SlowEngine(life);
    const own = { ...configuration, controlMailbox: control === "own" };
    this.#vf = this.#pf.createVf({ engine, compute: engine, configuration: own });
    const { memory, carvedBits: bits } = this.#vf;
    const guest = new Carve(this.#vf, { bar: qmBar, size: guestBarBytes, bits });
    this.planes = { guest, control: this.#vf, memory, broker: this.#pf.broker(1) };
    all.push(this);
  }

  newDriver(): HisiAccDriver {
    return new HisiAccDriver(this.planes, { now: this.#life.now });
  }

  get completed(): number {
    return this.#vf.counters["requests completed"] ?? 0;
  }

  /** A guest has left an event queue, which it installs before anything else. */
  holds(): boolean {
    const bytes = new Uint8Array(4);
    this.#vf.read(qmBar, Qm.at.EQC + EventContext.offset.dw6, bytes, 0, bytes.length);
    return bytes.some((byte) => byte !== 0);
  }

  /** The PF is reset, so who asks it has to wait; or it has lost the function's state. */
  upset(random: Random): void {
    if (random.oneIn(2)) this.#reset = this.#pf.beginReset() ?? this.#reset;
    else this.#pf.setBroken(1, true);
  }

  calm(): void {
    if (this.#reset !== null) this.#pf.endReset(this.#reset);
    this.#reset = null;
    this.#pf.setBroken(1, false);
  }
}
