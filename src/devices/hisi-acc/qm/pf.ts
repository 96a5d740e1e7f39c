import { performance } from "node:perf_hooks";
import { FerryError } from "../../../base/errors.ts";
import { Isolation, Message, qosRate } from "../../../spec/hisi-qm.ts";
import type { Engine } from "../engine.ts";
import type { ComputePort } from "./compute-port.ts";
import type { QmConfiguration } from "./configuration.ts";
import type { PfPort } from "./messages.ts";
import { type LockToken, PfLock } from "./pf-lock.ts";
import { QueueManager } from "./queue-manager.ts";
import { VfBroker, type VfFacts } from "./vf-broker.ts";

/** VFs of one PF on silicon. */
export const vfsMax = 63;
/** Queues of one PF on silicon. */
export const pfQueuesMax = 4096;
/** How long a question to the PF may take, and a reset of it, in milliseconds. */
export const accessMsMax = 100;
export const resetMsMax = 60_000;
/** The full share of a function. */
const qosDefault = 1000;

/** What the PF has heard of a VF that it told to prepare for a reset, or that the reset is over. */
export type VfAnswer = "none" | "prepared" | "not-prepared" | "started" | "not-started";

const answers: Readonly<Record<number, VfAnswer>> = {
  [Message.vfPrepareDone]: "prepared",
  [Message.vfPrepareFailed]: "not-prepared",
  [Message.vfStartDone]: "started",
  [Message.vfStartFailed]: "not-started",
};

/** A VF and what the PF knows of it. */
interface Vf {
  readonly queueManager: QueueManager;
  readonly broker: VfBroker;
  answer: VfAnswer;
  broken: boolean;
}

/** What a VF is made with. */
export interface VfParts {
  readonly engine: Engine;
  readonly compute: ComputePort;
  /** The PF gives the queues their numbers. */
  readonly configuration: Omit<QmConfiguration, "queueBase">;
}

/**
 * The physical function as its VFs see it: it deals out the queues (the VFT), takes and answers
 * messages, knows whether the accelerator is isolated after too many errors, and hears of each VF's
 * faults alone.
 */
export class Pf implements PfPort {
  readonly #vfs: Vf[] = [];
  readonly #queues: number;
  readonly #locks: { readonly access: PfLock; readonly reset: PfLock };
  readonly #now: () => number;
  #nextQueue: number;
  #resets = 0;
  #isolated = false;
  #threshold = 0;

  /**
   * `queues` are dealt out, from number `queueBase` on: those before are the PF's own. `now` is a
   * monotonic clock, in milliseconds.
   */
  constructor({ queues = pfQueuesMax, queueBase = 0, now = () => performance.now() } = {}) {
    this.#queues = queues;
    this.#nextQueue = queueBase;
    this.#now = now;
    this.#locks = { access: new PfLock(accessMsMax, now), reset: new PfLock(resetMsMax, now) };
  }

  /** Makes the next VF. Throws a FerryError when there are no queues left for it. */
  createVf({ engine, compute, configuration }: VfParts): QueueManager {
    const queueBase = this.#nextQueue;
    const { queues } = configuration;
    if (this.#vfs.length >= vfsMax || queueBase + queues > this.#queues) {
      const left = this.#queues - queueBase;
      throw new FerryError("no-queues", `no VF with ${queues} queues: ${left} queues are left.`);
    }
    const vf = this.#vfs.length + 1;
    const whole = { ...configuration, queueBase };
    const parts = { engine, compute, configuration: whole, vf, pf: this, now: this.#now };
    const queueManager = new QueueManager(parts);
    this.#nextQueue += queues;
    const facts = () => this.#facts(vf, whole);
    this.#vfs.push({
      queueManager,
      answer: "none",
      broken: false,
      broker: this.#broker(queueManager, facts),
    });
    return queueManager;
  }

  #broker({ name }: QueueManager, facts: () => VfFacts): VfBroker {
    return new VfBroker(name, this.#locks, facts);
  }

  /** What is told of a VF: of this one only, whatever happens to others. */
  #facts(vf: number, { queueBase, queues, controlMailbox }: QmConfiguration): VfFacts {
    const known = this.#vfs[vf - 1];
    return {
      vf,
      queueBase,
      queueCount: queues,
      isolation: 0,
      faults: known?.queueManager.faults ?? 0,
      broken: known?.broken ?? false,
      resets: this.#resets,
      controlMailbox,
    };
  }

  /** Whom to ask about a VF. */
  broker(vf: number): VfBroker {
    return this.#vf(vf).broker;
  }

  /** Begins a reset of the PF: nobody asks it anything until `endReset`. Null: there is one. */
  beginReset(): LockToken | null {
    const token = this.#locks.reset.take();
    if (token !== null) this.#resets += 1;
    return token;
  }

  endReset(token: LockToken): void {
    this.#locks.reset.release(token);
  }

  /** The hardware has lost a VF's state, or has it again. */
  setBroken(vf: number, broken: boolean): void {
    this.#vf(vf).broken = broken;
  }

  /** The VFs in the order of their numbers, which begin with 1. */
  get vfs(): readonly QueueManager[] {
    return this.#vfs.map(({ queueManager }) => queueManager);
  }

  #vf(number: number): Vf {
    const vf = this.#vfs[number - 1];
    if (vf === undefined) throw new FerryError("no-vf", `there is no VF ${number}.`);
    return vf;
  }

  /** What a VF has answered to the last message about a reset. */
  answer(vf: number): VfAnswer {
    return this.#vf(vf).answer;
  }

  /** What went wrong in a VF since its last reset: `FunctionFaults`. */
  faults(vf: number): number {
    return this.#vf(vf).queueManager.faults;
  }

  /** Tells a VF to prepare for a reset of the PF; false when it takes no more messages. */
  prepareReset(vf: number): boolean {
    return this.#tell(vf, Message.pfFlrPrepare, 0);
  }

  /** Tells a VF that the reset is over. */
  resetDone(vf: number): boolean {
    return this.#tell(vf, Message.pfResetDone, this.#isolation);
  }

  #tell(vf: number, message: number, data: number): boolean {
    const known = this.#vf(vf);
    known.answer = "none";
    return known.queueManager.notify(message, data);
  }

  get #isolation(): number {
    return Isolation.pack({ isolated: this.#isolated, threshold: this.#threshold });
  }

  /** Tells all VFs whether the accelerator is isolated, and after how many errors it will be. */
  isolate(isolated: boolean, threshold: number): void {
    this.#isolated = isolated;
    this.#threshold = threshold;
    for (const { queueManager } of this.#vfs) {
      queueManager.notify(Message.pfSetIsolation, this.#isolation);
    }
  }

  receive(number: number, message: number, _data: number): void {
    const vf = this.#vf(number);
    const answer = answers[message];
    if (answer !== undefined) vf.answer = answer;
    else if (message === Message.vfGetQos) {
      vf.queueManager.notify(Message.pfSetQos, qosRate * qosDefault);
    } else if (message === Message.vfGetIsolation) {
      vf.queueManager.notify(Message.pfSetIsolation, this.#isolation);
    }
  }
}
