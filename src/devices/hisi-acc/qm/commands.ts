import { errno } from "../../../base/errno.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import {
  contextBytes,
  EventContext,
  MailboxCommand,
  MailboxHead,
  Qm,
  VftHigh,
  VftLow,
} from "../../../spec/hisi-qm.ts";
import type { ControlWindow } from "./control-window.ts";
import type { EventQueue } from "./event-queue.ts";
import type { Events } from "./events.ts";
import type { Fiber } from "./fiber.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import type { Requests } from "./requests.ts";
import { FunctionFlags, QueueFlags } from "./state.ts";

const flag = QueueFlags.mask;
const { paused, held } = FunctionFlags.mask;
const { stopQueue, stopFunction, messages } = Qm.bits.FUNC_CAPS.mask;
const twoTo32 = 2 ** 32;
/** The function number of the PF. */
const pf = 0;

/** What commands need of their function. */
export interface CommandParts {
  readonly memory: GuestMemory;
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly requests: Requests;
  readonly events: Events;
  readonly eq: EventQueue;
  readonly aeq: EventQueue;
  /** First queue of the function among all of the PF's. */
  readonly queueBase: number;
  /** `FUNC_CAPS` register. */
  readonly functionCaps: number;
  /** Has who migrates the function a mailbox apart from the guest's? */
  readonly controlMailbox: boolean;
  readonly window: ControlWindow;
}

/** One command as it lies in the mailbox. */
export interface MailboxRequest {
  readonly queue: number;
  readonly get: boolean;
  readonly low: number;
  readonly high: number;
}

type Handler = (self: Commands, request: MailboxRequest) => Generator<void, number> | number;

/** A command by its number, and the capabilities without which it is not there. */
interface Command {
  readonly needs?: number;
  /** Only the control mailbox has it. */
  readonly control?: true;
  readonly run: Handler;
}

/**
 * What the mailbox can be told. Each command ends with 0 or a negated errno; one that does DMA or
 * waits is a generator. A result is left in `resultLow` and `resultHigh`.
 */
export class Commands {
  resultLow = 0;
  resultHigh = 0;
  readonly #parts: CommandParts;
  readonly #fiber: Fiber;
  readonly #control: boolean;
  readonly #bytes = new Uint8Array(contextBytes);
  readonly #view = new DataView(this.#bytes.buffer);

  /** `fiber` is the one that runs the commands; `control` is true for the control mailbox. */
  constructor(parts: CommandParts, fiber: Fiber, control: boolean) {
    this.#parts = parts;
    this.#fiber = fiber;
    this.#control = control;
  }

  /** The command that these dwords are; EINVAL for one that there is not. */
  *run(head: number, low: number, high: number): Generator<void, number> {
    const { command, get, queue } = MailboxHead.unpack(head);
    const known = commands[command];
    const needs = known?.needs ?? 0;
    if (known === undefined || (this.#parts.functionCaps & needs) !== needs) return -errno.EINVAL;
    if (known.control === true && !this.#control) return -errno.EINVAL;
    this.resultLow = low;
    this.resultHigh = high;
    const run = known.run(this, { queue, get, low, high });
    return typeof run === "number" ? run : yield* run;
  }

  *sqc({ queue, get, low, high }: MailboxRequest): Generator<void, number> {
    const { contexts, requests } = this.#parts;
    if (queue >= contexts.count) return -errno.EINVAL;
    const address = low + high * twoTo32;
    if (get) return yield* this.#dumpQueue(contexts.sqcAt(queue), address);
    const result = yield* this.#fiber.read(address, this.#bytes, 0, contextBytes);
    if (result < 0) return result;
    requests.abandon(queue);
    return contexts.installSq(queue, this.#bytes, false);
  }

  *cqc({ queue, get, low, high }: MailboxRequest): Generator<void, number> {
    const { contexts, requests } = this.#parts;
    if (queue >= contexts.count) return -errno.EINVAL;
    const address = low + high * twoTo32;
    if (get) return yield* this.#dumpQueue(contexts.cqcAt(queue), address);
    const result = yield* this.#fiber.read(address, this.#bytes, 0, contextBytes);
    if (result < 0) return result;
    requests.abandon(queue);
    const installed = contexts.installCq(queue, this.#bytes, false);
    requests.kick(queue);
    return installed;
  }

  *#dumpQueue(at: number, address: number): Generator<void, number> {
    this.#bytes.set(this.#parts.contexts.bytes.subarray(at, at + contextBytes));
    return yield* this.#fiber.write(address, this.#bytes, 0, contextBytes);
  }

  *eventContext(queue: EventQueue, { get, low, high }: MailboxRequest): Generator<void, number> {
    const address = low + high * twoTo32;
    if (get) {
      queue.dump(this.#view);
      return yield* this.#fiber.write(address, this.#bytes, 0, EventContext.size);
    }
    const result = yield* this.#fiber.read(address, this.#bytes, 0, EventContext.size);
    if (result < 0) return result;
    const installed = queue.install(this.#view);
    if (installed === 0 && queue === this.#parts.eq) this.#parts.events.eqInstalled();
    return installed;
  }

  eqc(request: MailboxRequest): Generator<void, number> {
    return this.eventContext(this.#parts.eq, request);
  }

  aeqc(request: MailboxRequest): Generator<void, number> {
    return this.eventContext(this.#parts.aeq, request);
  }

  table(name: "sqcTable" | "cqcTable", { get, low, high }: MailboxRequest): number {
    const { state } = this.#parts;
    if (get) {
      this.resultLow = state.tableLow(name);
      this.resultHigh = state.tableHigh(name);
    } else {
      state.setTable(name, low, high);
    }
    return 0;
  }

  vft({ get }: MailboxRequest): number {
    if (!get) return -errno.EINVAL;
    const { queueBase, contexts } = this.#parts;
    const lastQueue = contexts.count - 1;
    this.resultLow = VftLow.pack({ base: queueBase & 0xf });
    this.resultHigh = VftHigh.pack({ base: queueBase >>> 4, valid: true, lastQueue });
    return 0;
  }

  *stopQueue({ queue }: MailboxRequest): Generator<void, number> {
    const { contexts } = this.#parts;
    if (queue >= contexts.count) return -errno.EINVAL;
    contexts.set(queue, flag.draining);
    return yield* this.#drain(queue);
  }

  *flush(): Generator<void, number> {
    const { contexts } = this.#parts;
    for (let queue = 0; queue < contexts.count; queue++) contexts.set(queue, flag.draining);
    for (let queue = 0; queue < contexts.count; queue++) yield* this.#drain(queue);
    return 0;
  }

  /**
   * Nothing is added to a queue that drains, so it comes to an end; a paused one stays as is. While
   * the function is only held the drain goes on afterwards: it must not seem to be over.
   */
  *#drain(queue: number): Generator<void, number> {
    const { contexts, requests, state } = this.#parts;
    const served = () => !state.is(paused) || state.is(held);
    while (requests.busy(queue) || (served() && contexts.hasRequests(queue))) yield;
    contexts.clear(queue, flag.draining);
    contexts.set(queue, flag.stopped);
    return 0;
  }

  *pause(): Generator<void, number> {
    const { requests, state, controlMailbox } = this.#parts;
    if (controlMailbox && !this.#control) return -errno.EPERM;
    state.set(paused, true);
    requests.noteProgress();
    while (requests.inFlight > 0 && state.is(paused)) yield;
    return 0;
  }

  queueWindow({ queue, get }: MailboxRequest): number {
    const { window } = this.#parts;
    if (!get) return window.takeQueues(queue);
    const { shown, next } = window.showQueues(queue);
    this.resultLow = shown;
    this.resultHigh = next;
    return 0;
  }

  functionWindow({ get }: MailboxRequest): number {
    return this.#parts.window.function(get);
  }

  sendMessage({ queue, low, high }: MailboxRequest): number {
    if (queue !== pf) return -errno.EINVAL;
    this.#parts.state.setOutgoing(low, high);
    return 0;
  }

  receiveMessage({ queue }: MailboxRequest): number {
    if (queue !== pf) return -errno.EINVAL;
    this.resultLow = this.#parts.state.incomingMessage;
    this.resultHigh = this.#parts.state.incomingData;
    return 0;
  }
}

const commands: Readonly<Record<number, Command>> = {
  [MailboxCommand.sqc]: { run: (self, request) => self.sqc(request) },
  [MailboxCommand.cqc]: { run: (self, request) => self.cqc(request) },
  [MailboxCommand.eqc]: { run: (self, request) => self.eqc(request) },
  [MailboxCommand.aeqc]: { run: (self, request) => self.aeqc(request) },
  [MailboxCommand.sqcTable]: { run: (self, request) => self.table("sqcTable", request) },
  [MailboxCommand.cqcTable]: { run: (self, request) => self.table("cqcTable", request) },
  [MailboxCommand.vft]: { run: (self, request) => self.vft(request) },
  [MailboxCommand.stopQueue]: { needs: stopQueue, run: (self, each) => self.stopQueue(each) },
  [MailboxCommand.flush]: { needs: stopFunction, run: (self) => self.flush() },
  [MailboxCommand.sendMessage]: { needs: messages, run: (self, each) => self.sendMessage(each) },
  [MailboxCommand.receiveMessage]: {
    needs: messages,
    run: (self, request) => self.receiveMessage(request),
  },
  [MailboxCommand.pause]: { run: (self) => self.pause() },
  [MailboxCommand.queueWindow]: { control: true, run: (self, each) => self.queueWindow(each) },
  [MailboxCommand.functionWindow]: {
    control: true,
    run: (self, each) => self.functionWindow(each),
  },
};
