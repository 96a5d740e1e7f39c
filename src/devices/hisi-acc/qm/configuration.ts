import { FerryError } from "../../../base/errors.ts";
import {
  depthMin,
  engineCapabilities,
  eventDepthMax,
  extendedBar,
  Qm,
  queueDepthMax,
  queuesMax,
} from "../../../spec/hisi-qm.ts";
import type { EngineDescription } from "../engine.ts";

/**
 * How the interrupts are laid: each kind has its vector, as on silicon; or there is only one, for
 * the completions, for guests that cannot have more. Then they do not hear of errors and messages.
 */
export type VectorLayout = "split" | "single";

/** What of a function is a matter of configuration. */
export interface QmConfiguration {
  readonly queues: number;
  /** The first one's number among the PF's. */
  readonly queueBase: number;
  /** Depths that drivers are told to use, in entries. */
  readonly sqDepth: number;
  readonly cqDepth: number;
  readonly eqDepth: number;
  readonly aeqDepth: number;
  readonly vectors: VectorLayout;
  /**
   * Whether who migrates the function has a mailbox of its own in the control half; as on silicon,
   * it shares the guest's.
   */
  readonly controlMailbox: boolean;
  /** `FUNC_CAPS`. */
  readonly functionCaps: number;
  /** Engine capability registers that differ from the engine's own, by BAR2 offset. */
  readonly capabilities: Readonly<Record<number, number>>;
}

const { bits, at } = Qm;

/** As a Kunpeng 930 presents its VFs. */
export const defaultConfiguration: QmConfiguration = {
  queues: 256,
  queueBase: 0,
  sqDepth: 1024,
  cqDepth: 1024,
  eqDepth: 2048,
  aeqDepth: 1024,
  vectors: "split",
  controlMailbox: false,
  functionCaps: bits.FUNC_CAPS.pack({
    version: 1,
    functionQos: true,
    stopQueue: true,
    stopFunction: true,
    messages: true,
    pfRuntimePm: true,
    prefetch: true,
  }),
  capabilities: {},
};

/** Messages of the MSI capability, also where the driver is to take only one. */
export const msiVectors = 4;
/** Queues of all functions of one PF: their numbers have 16 bits. */
const queueNumbers = 0x10000;
/** Interrupt types say that there is such an interrupt. */
const present = 1;
const vectorOf = { eq: 0, aeq: 1, message: 2, abnormal: 3 } as const;
const irqCounts = { split: { vf: 3, pf: 4 }, single: { vf: 1, pf: 4 } } as const;

function checkNumber(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new FerryError(
    "bad-option",
    `${what}=${value} is no whole number from ${least} to ${most}.`,
  );
}

/** A FerryError says which value makes no sense. */
export function checkConfiguration(configuration: QmConfiguration): void {
  const { queues, queueBase, vectors, functionCaps, capabilities } = configuration;
  checkNumber("queues", queues, 1, queuesMax);
  checkNumber("queueBase", queueBase, 0, queueNumbers - queues);
  checkNumber("sqDepth", configuration.sqDepth, depthMin, queueDepthMax);
  checkNumber("cqDepth", configuration.cqDepth, depthMin, queueDepthMax);
  // A depth is told in 16 bits, so the largest is one less than what a context can say.
  checkNumber("eqDepth", configuration.eqDepth, depthMin, eventDepthMax - 1);
  checkNumber("aeqDepth", configuration.aeqDepth, depthMin, eventDepthMax - 1);
  checkNumber("functionCaps", functionCaps, 0, 0xffffffff);
  if (vectors !== "split" && vectors !== "single") {
    throw new FerryError("bad-option", `vectors=${vectors} is neither split nor single.`);
  }
  const { version, vfRuntimePm, dae } = bits.FUNC_CAPS.unpack(functionCaps);
  if (version === 0 || vfRuntimePm || dae) {
    throw new FerryError(
      "bad-option",
      `functionCaps=0x${functionCaps.toString(16)}: a version, and neither runtime PM nor DAE.`,
    );
  }
  for (const [offset, value] of Object.entries(capabilities)) {
    const { first, last } = engineCapabilities;
    checkNumber(`capability 0x${Number(offset).toString(16)}`, value, 0, 0xffffffff);
    checkNumber("capability offset", Number(offset), first, last);
    if (Number(offset) % 4 === 0) continue;
    throw new FerryError("bad-option", `capability offset ${offset} is no multiple of 4.`);
  }
}

/** The vector of an interrupt; -1 where there is none. */
export function vectorFor(layout: VectorLayout, kind: keyof typeof vectorOf): number {
  return layout === "split" || kind === "eq" ? vectorOf[kind] : -1;
}

function interrupt(layout: VectorLayout, kind: keyof typeof vectorOf): number {
  const vector = vectorFor(layout, kind);
  return vector < 0 ? 0 : bits.EQ_IRQ.pack({ vector, type: present });
}

/** What the capability registers of a function read, by BAR2 offset. */
export function capabilityValues(
  configuration: QmConfiguration,
  engine: EngineDescription,
): Map<number, number> {
  const { vectors, sqDepth, cqDepth, eqDepth, aeqDepth } = configuration;
  const values = new Map<number, number>([
    [at.FUNC_CAPS, configuration.functionCaps],
    [at.EVENT_DEPTHS, bits.EVENT_DEPTHS.pack({ eq: eqDepth, aeq: aeqDepth })],
    [at.QUEUE_DEPTHS, bits.QUEUE_DEPTHS.pack({ sq: sqDepth, cq: cqDepth })],
    [at.EQ_IRQ, interrupt(vectors, "eq")],
    [at.AEQ_IRQ, interrupt(vectors, "aeq")],
    [at.ABNORMAL_IRQ, interrupt(vectors, "abnormal")],
    [at.MESSAGE_IRQ, interrupt(vectors, "message")],
    [at.IRQ_COUNT, bits.IRQ_COUNT.pack(irqCounts[vectors])],
    [at.EXTENDED_BAR, extendedBar],
  ]);
  const own = { ...engine.capabilities, ...configuration.capabilities };
  for (const [offset, value] of Object.entries(own)) values.set(Number(offset), value);
  return values;
}
