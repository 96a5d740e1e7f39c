import { FerryError } from "../base/errors.ts";
import {
  depthMin,
  interruptAbsent,
  MailboxCommand,
  Qm,
  qmBar,
  queueDepthMax,
  VftHigh,
} from "../spec/hisi-qm.ts";
import type { Mailbox } from "./mailbox.ts";
import type { PciFunction } from "./pci-function.ts";

/** What a function says about itself when it is probed. */
export interface QmTraits {
  readonly queues: number;
  /** The deepest SQ and CQ, in entries. */
  readonly sqDepth: number;
  readonly cqDepth: number;
  readonly eqDepth: number;
  readonly aeqDepth: number;
  /** MSI vectors to ask for. */
  readonly vectors: number;
  readonly eqVector: number;
  /** -1: the function does not interrupt for errors. */
  readonly aeqVector: number;
  /** Whether there are commands that end a queue's requests, and all queues'. */
  readonly stopQueue: boolean;
  readonly stopFunction: boolean;
}

/** As many messages as MSI has. */
const vectorsMax = 32;

const unsupported = (why: string): FerryError =>
  new FerryError("unsupported-device", `this driver cannot use the device: ${why}.`);

/** Asks in the order in which Linux's driver does; a FerryError when it cannot work with that. */
export function readTraits(pciFunction: PciFunction, mailbox: Mailbox): QmTraits {
  const { at, bits } = Qm;
  const read = (offset: number): number => pciFunction.read(qmBar, offset);
  if (read(at.QUEUE_ISOLATION) !== 0) throw unsupported("its doorbells are not all in BAR2");
  const caps = bits.FUNC_CAPS.unpack(read(at.FUNC_CAPS));
  if (caps.version === 0) throw unsupported("it has no capability registers");
  const eq = bits.EQ_IRQ.unpack(read(at.EQ_IRQ));
  const aeq = bits.AEQ_IRQ.unpack(read(at.AEQ_IRQ));
  if (eq.type === interruptAbsent) throw unsupported("it does not interrupt for completions");
  mailbox.run(MailboxCommand.vft, { get: true });
  const vft = VftHigh.unpack(mailbox.result[1]);
  if (!vft.valid) throw unsupported("it has no queues");
  const { vf: vectors } = bits.IRQ_COUNT.unpack(read(at.IRQ_COUNT));
  if (vectors > vectorsMax || eq.vector >= vectors) throw unsupported("its vectors make no sense");
  const events = bits.EVENT_DEPTHS.unpack(read(at.EVENT_DEPTHS));
  const { sq: sqDepth, cq: cqDepth } = bits.QUEUE_DEPTHS.unpack(read(at.QUEUE_DEPTHS));
  const least = Math.min(events.eq, events.aeq, sqDepth, cqDepth);
  if (least < depthMin || Math.max(sqDepth, cqDepth) > queueDepthMax) {
    throw unsupported("the depths of its rings make no sense");
  }
  return {
    queues: vft.lastQueue + 1,
    sqDepth,
    cqDepth,
    eqDepth: events.eq,
    aeqDepth: events.aeq,
    vectors,
    eqVector: eq.vector,
    aeqVector: aeq.type === interruptAbsent ? -1 : aeq.vector,
    stopQueue: caps.stopQueue,
    stopFunction: caps.stopFunction,
  };
}
