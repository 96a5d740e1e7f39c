import { FerryError } from "../base/errors.ts";
import { GuestRam } from "../client/guest-ram.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import {
  Aeqe,
  contextBytes,
  DoorbellCommand,
  DoorbellHigh,
  DoorbellLow,
  Eqe,
  EventContext,
  EventDw6,
  eqeBytes,
  hisiVendor,
  MailboxCommand,
  Qm,
  qmBar,
  revisionV3,
} from "../spec/hisi-qm.ts";
import { putter } from "./bit-range.ts";
import type { Call } from "./call.ts";
import { DmaArea, type DmaBuffer } from "./dma-area.ts";
import { Mailbox } from "./mailbox.ts";
import { PciFunction } from "./pci-function.ts";
import { type QmTraits, readTraits } from "./qm-traits.ts";
import { type QueueOptions, QueuePair } from "./queue-pair.ts";
import { Ring } from "./ring.ts";

const two32 = 2 ** 32;
const putCommand = putter(DoorbellLow, "command");
const putPriority = putter(DoorbellHigh, "priority");
/** EQEs and AEQEs have their phase at bit 16. */
const phaseAt = 2;
const phaseMask = 1;
/** How long to sleep at most when there is no news. */
const waitMs = 100;
/** Without interrupts: how often to look in vain before the next look sleeps, and how long. */
const vainPollsMax = 1000;
const pollMs = 1;

/** How a driver uses the queue manager. */
export interface QmDriverOptions {
  /** Bytes of memory for rings and requests; a multiple of the page size. */
  readonly memoryBytes?: number;
  /** Where the device finds it. */
  readonly memoryIova?: number;
  /** False: looks at the completion queues again and again. */
  readonly interrupts?: boolean;
  /** True: the device is told of requests at the next poll, of all of them at once. */
  readonly batches?: boolean;
  /** False: the device gets no file of the memory and reaches it by messages. */
  readonly sharedMemory?: boolean;
  /** How long a mailbox command or a request may take. */
  readonly timeoutMs?: number;
}

const defaults = {
  memoryBytes: 64 << 20,
  // Above 4 GiB, so that both halves of addresses count.
  memoryIova: two32,
  interrupts: true,
  batches: false,
  sharedMemory: true,
  timeoutMs: 30_000,
} as const;

/** What becomes of a queue about which the device reports an error, by `AeqeType`. */
const errorNames = ["the completion queue overflowed", "the event queue overflowed", "a bad entry"];

/**
 * A driver of the queue manager that all HiSilicon accelerators have. It follows Linux's `hisi_qm`:
 * the steps of `start` are those of its probe, in their order. Everything blocks until it is done
 * or throws a FerryError. PF messages stay masked: nothing here needs them.
 */
export class QmDriver {
  readonly function: PciFunction;
  readonly memory: DmaArea;
  readonly mailbox: Mailbox;
  readonly traits: QmTraits;
  /** Whether completions are told by interrupts. */
  readonly interrupts: boolean;
  /** Whether doorbells wait for the next poll. */
  readonly batches: boolean;
  readonly queues: QueuePair[] = [];
  /** How many requests the device was given so far: the next one's number, which is its tag. */
  submitted = 0;
  readonly #timeoutMs: number;
  #vainPolls = 0;
  readonly #eq: Ring;
  readonly #aeq: Ring;
  /** What else of the memory the function is told about at its start. */
  readonly #contexts: Readonly<Record<"eqc" | "aeqc" | "sqcTable" | "cqcTable", DmaBuffer>>;

  /** Takes over a function with this device id and starts it. */
  constructor(device: VfioDevice, deviceId: number, options: QmDriverOptions = {}) {
    const { memoryBytes, memoryIova, sharedMemory, ...others } = { ...defaults, ...options };
    this.function = new PciFunction(device);
    this.#checkIdentity(deviceId);
    this.interrupts = others.interrupts;
    this.batches = others.batches;
    this.#timeoutMs = others.timeoutMs;
    const ram = new GuestRam(memoryBytes);
    try {
      device.attach(ram);
      if (ram.map(device, memoryIova, 0, memoryBytes, { shared: sharedMemory }) < 0) {
        throw new FerryError("device-error", `${device.name} takes no DMA memory.`);
      }
      this.#resetDevice();
      this.memory = new DmaArea(ram, { iova: memoryIova, at: 0, size: memoryBytes });
      this.mailbox = new Mailbox(this.function, others.timeoutMs);
      this.function.enable();
      this.traits = readTraits(this.function, this.mailbox);
      if (this.interrupts) this.function.wireMsi(this.traits.vectors);
      const { eqDepth, aeqDepth, queues } = this.traits;
      this.#eq = new Ring(this.memory, eqDepth, eqeBytes, phaseAt, phaseMask);
      this.#aeq = new Ring(this.memory, aeqDepth, eqeBytes, phaseAt, phaseMask);
      this.#contexts = {
        eqc: this.memory.allocate(contextBytes),
        aeqc: this.memory.allocate(contextBytes),
        sqcTable: this.memory.allocate(queues * contextBytes),
        cqcTable: this.memory.allocate(queues * contextBytes),
      };
      this.#start();
    } catch (thrown) {
      device.detach();
      this.function.closeEventfds();
      ram.close();
      throw thrown;
    }
  }

  #checkIdentity(deviceId: number): void {
    const { function: pci } = this;
    const found = [pci.readConfig("VENDOR_ID"), pci.readConfig("DEVICE_ID")];
    const revision = pci.readConfig("REVISION_ID");
    if (found[0] === hisiVendor && found[1] === deviceId && revision >= revisionV3) return;
    const words = found.map((id) => id.toString(16).padStart(4, "0")).join(":");
    throw new FerryError("unknown-device", `${words} is no device for this driver.`);
  }

  /** Tells the function of its event rings and tables, then lets it interrupt. */
  #start(): void {
    const { at } = Qm;
    this.#eq.restart();
    this.#aeq.restart();
    this.#writeContext(this.#contexts.eqc, this.#eq);
    this.#writeContext(this.#contexts.aeqc, this.#aeq);
    for (const name of ["eqc", "aeqc", "sqcTable", "cqcTable"] as const) {
      this.mailbox.run(MailboxCommand[name], { address: this.#contexts[name].iova });
    }
    this.doorbell(0, DoorbellCommand.aeq, 0);
    this.doorbell(0, DoorbellCommand.eq, 0);
    this.function.write(qmBar, at.EQ_INT_MASK, 0);
    this.function.write(qmBar, at.AEQ_INT_MASK, 0);
    this.function.write(qmBar, at.VF_STATE, 0);
  }

  #writeContext(context: DmaBuffer, ring: Ring): void {
    const { iova } = ring.buffer;
    EventContext.set(this.memory.ram.view, context.at, {
      head: 0,
      tail: 0,
      baseLow: iova % two32,
      baseHigh: Math.floor(iova / two32),
      dw3: 0,
      reserved: [0, 0],
      dw6: EventDw6.pack({ lastSlot: ring.depth - 1, phase: true }),
    });
  }

  /** Rings a doorbell: SQ with its new tail, the others with what was taken from them. */
  doorbell(queue: number, command: number, index: number, priority = 0): void {
    const isEvent = command === DoorbellCommand.eq || command === DoorbellCommand.aeq;
    const offset = isEvent ? Qm.at.EVENT_DOORBELL : Qm.at.QUEUE_DOORBELL;
    const low = queue | putCommand(command);
    this.function.writePair(qmBar, offset, low, index | putPriority(priority));
  }

  /** The next free queue pair, ready for requests; a FerryError when there is none left. */
  createQueue(options: QueueOptions): QueuePair {
    const { queues, sqDepth, cqDepth } = this.traits;
    if (this.queues.length >= queues) {
      throw new FerryError("no-queue", `all of the device's ${queues} queues are taken.`);
    }
    const depth = Math.min(options.depth, sqDepth - 1, cqDepth - 1);
    const queue = new QueuePair(this, this.queues.length, { ...options, depth });
    queue.install();
    this.queues.push(queue);
    return queue;
  }

  /** Requests that every queue takes at once. */
  get depth(): number {
    return Math.min(...this.queues.map((queue) => queue.depth));
  }

  /**
   * Ends the calls that are completed; sleeps for a moment at most until there are some, or until
   * an interrupt, for `patienceMs`.
   */
  poll(patienceMs = waitMs): number {
    this.ring();
    return this.interrupts ? this.#awaitEvents(patienceMs) : this.#pollQueues();
  }

  /** Tells the device of requests that it has not been told of. */
  ring(): void {
    if (this.batches) for (const queue of this.queues) queue.ring();
  }

  #pollQueues(): number {
    this.function.wait(this.#vainPolls < vainPollsMax ? 0 : pollMs);
    this.#checkErrors(false);
    let count = 0;
    for (const queue of this.queues) count += queue.poll();
    this.#vainPolls = count > 0 ? 0 : this.#vainPolls + 1;
    return count;
  }

  #awaitEvents(patienceMs: number): number {
    this.function.wait(patienceMs);
    this.#checkErrors(this.function.raised(this.traits.aeqVector));
    if (!this.function.raised(this.traits.eqVector)) return 0;
    const events = this.#take(this.#eq);
    this.doorbell(0, DoorbellCommand.eq, this.#eq.head);
    return events.reduce((sum, word) => sum + this.#pollQueue(Eqe.unpack(word).queue), 0);
  }

  #pollQueue(number: number): number {
    return this.queues[number]?.poll() ?? 0;
  }

  /** Looks into the error ring in any case: not every function has an interrupt for it. */
  #checkErrors(isRaised: boolean): void {
    if (!isRaised && !this.#aeq.hasNews) return;
    const [first, ...more] = this.#take(this.#aeq);
    this.doorbell(0, DoorbellCommand.aeq, this.#aeq.head);
    if (first === undefined) return;
    const { queue, type } = Aeqe.unpack(first);
    const what = errorNames[type] ?? `error ${type}`;
    const others = more.length > 0 ? `, and ${more.length} more` : "";
    throw new FerryError("device-error", `the device stopped queue ${queue}: ${what}${others}.`);
  }

  /** The events that wait in a ring; its doorbell then asks for the next interrupt. */
  #take(ring: Ring): number[] {
    const words: number[] = [];
    while (words.length < ring.depth) {
      const at = ring.take();
      if (at < 0) break;
      words.push(this.memory.ram.view.getUint32(at, true));
    }
    return words;
  }

  /** Waits for a call's value; a FerryError when the device takes too long. */
  wait<T>(call: Call<T>): T {
    while (!call.done) {
      this.poll();
      this.checkInTime(call);
    }
    return call.value;
  }

  /** A FerryError when the device has taken too long for a call. */
  checkInTime(call: Call<unknown>): void {
    if (call.done || performance.now() - call.startedAtMs <= this.#timeoutMs) return;
    throw new FerryError("device-timeout", `a request took more than ${this.#timeoutMs} ms.`);
  }

  /** Resets the function and starts it and its queues anew. What was under way is lost. */
  reset(): void {
    this.#resetDevice();
    this.function.enable();
    this.#start();
    for (const queue of this.queues) queue.install();
  }

  /** Also at the start, as when a kernel hands a device over: its last driver may have died. */
  #resetDevice(): void {
    const { device } = this.function;
    if (device.reset() < 0) throw new FerryError("device-error", `${device.name} is not reset.`);
  }

  /**
   * Ends what is under way and lets go of the function; the device itself stays open. Whatever the
   * device says, the driver's own memory and eventfds are given back.
   */
  close(): void {
    const { device } = this.function;
    const { ram, buffer } = this.memory;
    try {
      this.#stop();
      this.function.unwireMsi();
      ram.unmap(device, buffer.iova);
    } finally {
      device.attach(null);
      this.function.closeEventfds();
      ram.close();
    }
  }

  #stop(): void {
    const { at } = Qm;
    if (this.traits.stopFunction) this.mailbox.run(MailboxCommand.flush);
    this.function.write(qmBar, at.EQ_INT_MASK, 1);
    this.function.write(qmBar, at.AEQ_INT_MASK, 1);
    this.function.write(qmBar, at.VF_STATE, 1);
  }
}
