import { assert } from "../../../base/assert.ts";
import { errno } from "../../../base/errno.ts";
import { msi, pciExpress } from "../../../device/capabilities.ts";
import { PciModel } from "../../../device/pci-model.ts";
import type { Watch } from "../../../device/vfio-device.ts";
import {
  engineCapabilities,
  hisiVendor,
  Qm,
  qmBar,
  qmBarBytes,
  revisionV3,
} from "../../../spec/hisi-qm.ts";
import { InterruptPin } from "../../../spec/pci.ts";
import type { Engine } from "../engine.ts";
import type { ComputePort } from "./compute-port.ts";
import {
  capabilityValues,
  checkConfiguration,
  msiVectors,
  type QmConfiguration,
  vectorFor,
} from "./configuration.ts";
import { ControlWindow } from "./control-window.ts";
import { Doorbells } from "./doorbells.ts";
import { EventQueue, type QmBank } from "./event-queue.ts";
import { Events } from "./events.ts";
import { FunctionState } from "./function-state.ts";
import { Mailbox } from "./mailbox.ts";
import { Messages, type PfPort } from "./messages.ts";
import { QueueContexts } from "./queue-contexts.ts";
import { Requests } from "./requests.ts";
import { FunctionFlags, FunctionRecord, QueueFlags, QueueRecord } from "./state.ts";
import { Tables } from "./tables.ts";

/** Counts up when the meaning of the state changes. */
const stateVersion = 1;
const doorbellBytes = 8;
const { eqArmed, aeqArmed, eqOverflow, still } = FunctionFlags.mask;
const { event, error, load } = QueueFlags.mask;

/** What a function is made with. */
export interface QueueManagerParts {
  readonly engine: Engine;
  readonly compute: ComputePort;
  readonly configuration: QmConfiguration;
  /** Number of the function, from 1, and who takes its messages. */
  readonly vf: number;
  readonly pf: PfPort;
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number;
}

/**
 * A virtual function: the queue manager of revision V3 with an engine behind it. BAR2 is both its
 * halves, the guest's and the control half; a VMM is given the first one (`carve`).
 */
export class QueueManager extends PciModel {
  readonly #bank: QmBank;
  readonly #capabilities: ReadonlyMap<number, number>;
  readonly #contexts: QueueContexts;
  readonly #function: FunctionState;
  readonly #eq: EventQueue;
  readonly #aeq: EventQueue;
  readonly #events: Events;
  readonly #requests: Requests;
  readonly #tables: Tables;
  readonly #mailbox: Mailbox;
  readonly #controlMailbox: Mailbox;
  readonly #window: ControlWindow;
  readonly #doorbells: Doorbells;
  readonly #messages: Messages;
  readonly #compute: ComputePort;
  readonly #hasControl: boolean;
  /** Is the write in progress one of 64 bits? Only such a one is a doorbell. */
  #wholeDoorbell = false;
  #doorbellLow = 0;
  #watched: readonly [readonly Watch[], readonly Watch[]] = [[], []];
  #watches: readonly Watch[] = [];

  /** Throws a FerryError for a configuration that makes no sense. */
  constructor({ engine, compute, configuration, vf, pf, now }: QueueManagerParts) {
    checkConfiguration(configuration);
    const { name, deviceId, classCode, sqeBytes } = engine.description;
    const { queues, queueBase, vectors, functionCaps } = configuration;
    super({
      name,
      version: stateVersion,
      vendor: hisiVendor,
      device: deviceId,
      revision: revisionV3,
      classCode,
      interruptPin: InterruptPin.none,
      capabilities: [msi({ vectors: msiVectors }), pciExpress()],
      bars: { [qmBar]: { size: qmBarBytes, space: "memory64" } },
      sections: { function: FunctionRecord.size, queues: queues * QueueRecord.size },
    });
    const { memory, interrupts } = this;
    this.#compute = compute;
    this.#capabilities = capabilityValues(configuration, engine.description);
    const state = new FunctionState(this.section("function"));
    const contexts = new QueueContexts(this.section("queues"), queues, sqeBytes);
    const bank = this.#layBank();
    const eq = new EventQueue(bank, state, interrupts, eqNames, vectorFor(vectors, "eq"));
    const aeq = new EventQueue(bank, state, interrupts, aeqNames, vectorFor(vectors, "aeq"));
    const events = new Events(memory, contexts, state, eq, aeq);
    const requests = new Requests({ memory, engine, compute, contexts, state, events, now });
    const tables = new Tables({ bank, memory, contexts, state, requests });
    const parts = { memory, contexts, state, requests, events, eq, aeq, tables };
    this.#bank = bank;
    this.#function = state;
    this.#contexts = contexts;
    this.#eq = eq;
    this.#aeq = aeq;
    this.#events = events;
    this.#requests = requests;
    this.#tables = tables;
    const { controlMailbox } = configuration;
    this.#hasControl = controlMailbox;
    const steps = { abort: () => this.abort(), recover: () => this.#recover() };
    const window = new ControlWindow({ bank, contexts, state, requests, ...steps });
    const commandParts = { ...parts, queueBase, functionCaps, controlMailbox, window };
    this.#window = window;
    this.#mailbox = new Mailbox(bank, commandParts, "MAILBOX");
    this.#controlMailbox = new Mailbox(bank, commandParts, "CONTROL_MAILBOX");
    this.#doorbells = new Doorbells(parts);
    const messageVector = vectorFor(vectors, "message");
    this.#messages = new Messages(bank, state, interrupts, messageVector, vf, pf);
    this.#showCapabilities();
  }

  #layBank(): QmBank {
    return this.bank(qmBar, Qm, {
      AEQ_INT_MASK: () => this.#aeq.fire(),
      EQ_INT_MASK: () => this.#eq.fire(),
      IFC_INT_SOURCE: (source) => this.#messages.acknowledge(source),
      IFC_INT_MASK: () => this.#messages.fire(),
      IFC_INT_STATUS: { read: () => this.#messages.status },
      IFC_INT_SET: (set) => this.#messages.send(set),
      ACTIVE: { read: () => this.#active },
      CACHE_WB_START: (start) => {
        if ((start & 1) !== 0) this.#tables.writeBack();
      },
      MAILBOX: (value, index) => this.#mailbox.write(value, index),
      CONTROL_MAILBOX: (value, index) => this.#controlMailbox.write(value, index),
      STANDSTILL: {
        write: (how) => {
          if (this.#hasControl) this.#window.stand(how & 3);
        },
        read: () => this.#window.standing,
      },
      QUEUE_DOORBELL: (value, index) => {
        if (index === 0) this.#doorbellLow = value;
        else if (this.#wholeDoorbell) this.#doorbells.ringQueue(this.#doorbellLow, value);
      },
      EVENT_DOORBELL: (value, index) => {
        if (index === 0) this.#doorbellLow = value;
        else if (this.#wholeDoorbell) this.#doorbells.ringEvent(this.#doorbellLow, value);
      },
    });
  }

  /** Registers that only tell what the function is. */
  #showCapabilities(): void {
    for (const [offset, value] of this.#capabilities) this.#setCapability(offset, value);
  }

  #setCapability(offset: number, value: number): void {
    const { first } = engineCapabilities;
    if (offset >= first) this.#bank.set("ENGINE_CAPS", value, (offset - first) / 4);
    else this.#bank.set(nameAt(offset), value);
  }

  #capability(offset: number): number {
    const { first } = engineCapabilities;
    if (offset >= first) return this.#bank.get("ENGINE_CAPS", (offset - first) / 4);
    return this.#bank.get(nameAt(offset));
  }

  /** Where `carve` keeps the bits of its base address register: in the state. */
  get carvedBits(): Uint8Array {
    return this.#function.carved;
  }

  override get counters(): Readonly<Record<string, number>> {
    return { "requests completed": this.#contexts.completed };
  }

  /** `FunctionFaults` since the last reset, for the PF. */
  get faults(): number {
    return this.#function.faults;
  }

  /** A message of the PF's; false when too many wait, or the function takes none. */
  notify(message: number, data: number): boolean {
    const { messages } = Qm.bits.FUNC_CAPS.mask;
    const able = (this.#bank.get("FUNC_CAPS") & messages) !== 0;
    return able && this.#messages.push(message, data);
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    this.#wholeDoorbell = count === doorbellBytes && offset % doorbellBytes === 0;
    return super.write(region, offset, bytes, at, count);
  }

  override get watches(): readonly Watch[] {
    const own = super.watches;
    const { watches: computing } = this.#compute;
    if (computing.length === 0) return own;
    const [before, computingBefore] = this.#watched;
    if (before !== own || computingBefore !== computing) {
      this.#watched = [own, computing];
      this.#watches = [...own, ...computing];
    }
    return this.#watches;
  }

  /** Do messages carry what cannot be begun anew elsewhere? */
  get #committing(): boolean {
    return this.#requests.committing || this.#events.committing;
  }

  /** ACTIVE: what is under way. */
  get #active(): number {
    const contexts = this.#contexts;
    return Qm.bits.ACTIVE.pack({
      requests: this.#requests.inFlight > 0,
      events: contexts.some(event | error) || this.#function.is(eqOverflow),
      loads: contexts.some(load),
      committing: this.#committing,
    });
  }

  rest(on: boolean): boolean {
    this.#requests.rest(on);
    return !this.#committing;
  }

  protected override get hasWork(): boolean {
    if (this.#controlMailbox.ready) return true;
    if (this.#function.is(still)) return false;
    const commanded = this.#mailbox.ready || this.#tables.ready;
    return this.#requests.hasWork || this.#events.ready || commanded;
  }

  protected override slice(): void {
    if (this.#controlMailbox.ready) this.#controlMailbox.step();
    if (this.#function.is(still)) return;
    if (this.#mailbox.ready) this.#mailbox.step();
    if (this.#tables.ready) this.#tables.step();
    if (this.#events.ready) this.#events.flush();
    this.#requests.slice();
  }

  /** Everything that was under way is in the state, and starts anew from there. */
  protected override onAbort(): void {
    this.#requests.abort();
    this.#recover();
  }

  #recover(): void {
    this.#events.recover();
    this.#tables.recover();
    this.#mailbox.recover();
    this.#controlMailbox.recover();
  }

  protected override onReset(): void {
    this.#function.reset();
    this.#contexts.reset();
    this.#showCapabilities();
    this.#requests.restored();
    this.#recover();
  }

  protected override onRestored(): number {
    for (const [offset, value] of this.#capabilities) {
      if (this.#capability(offset) !== value) return -errno.EINVAL;
    }
    if (!this.#function.fits() || !this.#contexts.fits()) return -errno.EINVAL;
    this.#requests.restored();
    this.#recover();
    return 0;
  }
}

const eqNames = {
  context: "EQC",
  source: "EQ_INT_SOURCE",
  mask: "EQ_INT_MASK",
  armed: eqArmed,
} as const;
const aeqNames = {
  context: "AEQC",
  source: "AEQ_INT_SOURCE",
  mask: "AEQ_INT_MASK",
  armed: aeqArmed,
} as const;

/** The register at an offset. */
function nameAt(offset: number): keyof typeof Qm.registers {
  const names = Object.keys(Qm.registers) as (keyof typeof Qm.registers)[];
  const name = names.find((each) => Qm.at[each] === offset);
  assert(name !== undefined, `no register at ${offset}`);
  return name;
}
