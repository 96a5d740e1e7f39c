/** What the values of a stream may be, field by field. */
import { AccVfState, accMagic, accVersion } from "../../../spec/acc-vf-data.ts";
import { MailboxHead, Message, messagesMax, pageSizeMax } from "../../../spec/hisi-qm.ts";
import { FunctionFaults, WindowFlags } from "../../../spec/hisi-qm-control.ts";
import { addressFits, eventAddress, eventProblem, isZero } from "./contexts.ts";
import type { FunctionState, Match, VfData } from "./sections.ts";

/** What of a device a state must fit. */
export interface Fit {
  readonly deviceId: number;
  readonly queueCount: number;
  readonly isolation: number;
  /** log2 of an SQ entry's bytes. */
  readonly sqeShift: number;
}

/** One field and what it must be: a test, and words that follow `its <field> `. */
type Rule<T> = readonly [
  field: keyof T & string,
  fits: (values: T, fit: Fit) => boolean,
  says: (fit: Fit) => string,
];

/** The first field that is not what it must be, as a sentence; null when all are. */
export function problemOf<T>(rules: readonly Rule<T>[], values: T, fit: Fit): string | null {
  const broken = rules.find(([, fits]) => !fits(values, fit));
  return broken === undefined ? null : `its ${broken[0]} ${broken[2](fit)}`;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const isNot = (what: string) => () => `is not ${what}`;
const isOneBit = (value: number): boolean => value <= 1;
const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.every((value, index) => value === b[index]);
/** Numbers of a PF's queues have 16 bits. */
const queueNumbers = 0x10000;

/** Of what tells whether a state fits a function. */
export const matchRules: readonly Rule<Match>[] = [
  ["magic", ({ magic }) => same(magic, accMagic.v2), isNot("that of version 2")],
  ["major", ({ major }) => major === accVersion.major, isNot(String(accVersion.major))],
  [
    "deviceId",
    ({ deviceId }, fit) => deviceId === fit.deviceId,
    ({ deviceId }) => `is not ${hex(deviceId)}`,
  ],
  [
    "queueCount",
    ({ queueCount }, fit) => queueCount === fit.queueCount,
    ({ queueCount }) => `is not ${queueCount}`,
  ],
  [
    "isolation",
    ({ isolation }, fit) => isolation === fit.isolation,
    ({ isolation }) => `is not ${isolation}`,
  ],
  [
    "queueBase",
    ({ queueBase, queueCount }) => queueBase + queueCount <= queueNumbers,
    isNot("a queue's number"),
  ],
  ["vfQmState", ({ vfQmState }) => isOneBit(vfQmState), isNot("0 or 1")],
  ["reservedState", ({ reservedState }) => isZero(reservedState), isNot("zero")],
];

/** Of the kernel's structure. */
export const vfDataRules: readonly Rule<VfData>[] = [
  ["vfQmState", ({ vfQmState }) => vfQmState === AccVfState.ready, isNot("0, but there is more")],
  ["aeqIntMask", ({ aeqIntMask }) => isOneBit(aeqIntMask), isNot("0 or 1")],
  ["eqIntMask", ({ eqIntMask }) => isOneBit(eqIntMask), isNot("0 or 1")],
  ["ifcIntSource", ({ ifcIntSource }) => isOneBit(ifcIntSource), isNot("0 or 1")],
  ["ifcIntMask", ({ ifcIntMask }) => isOneBit(ifcIntMask), isNot("0 or 1")],
  ["ifcIntSet", ({ ifcIntSet }) => isOneBit(ifcIntSet), isNot("0 or 1")],
  ["pageSize", ({ pageSize }) => pageSize <= pageSizeMax, isNot("0, 1 or 2")],
  ["reservedRegisters", (data) => isZero(data.reservedRegisters), isNot("zero")],
  ["padding", ({ padding }) => padding === 0, isNot("zero")],
  [
    "eqAddress",
    ({ eqAddress, eqc }) => eqAddress === eventAddress(eqc),
    isNot("the base of its eqc"),
  ],
  [
    "aeqAddress",
    ({ aeqAddress, aeqc }) => aeqAddress === eventAddress(aeqc),
    isNot("the base of its aeqc"),
  ],
  ["sqcTable", ({ sqcTable }) => addressFits(sqcTable), isNot("a table's address")],
  ["cqcTable", ({ cqcTable }) => addressFits(cqcTable), isNot("a table's address")],
];

/** The same for the contexts, of which more is to be said. */
export function eventsProblem({ eqc, aeqc }: VfData): string | null {
  for (const [name, dwords] of Object.entries({ eqc, aeqc })) {
    const said = eventProblem(dwords);
    if (said !== null) return `${name}: ${said}`;
  }
  return null;
}

/** Messages that a PF sends to a VF. */
const pfMessages: readonly number[] = [
  Message.pfFlrPrepare,
  Message.pfSoftResetPrepare,
  Message.pfResetDone,
  Message.pfSetQos,
  Message.functionReset,
  Message.pfSetIsolation,
];

function messagesFit({ messages, incoming }: FunctionState): boolean {
  const pairs = Array.from({ length: messagesMax }, (_, i) => incoming.slice(2 * i, 2 * i + 2));
  const waiting = pairs.slice(0, messages);
  const known = waiting.every(([message]) => pfMessages.includes(message as number));
  return known && pairs.slice(messages).every(isZero);
}

const { busy } = MailboxHead.mask;
const { executing } = WindowFlags.mask;

/** Of what the kernel's structure leaves out. */
export const functionRules: readonly Rule<FunctionState>[] = [
  ["vfState", ({ vfState }) => isOneBit(vfState), isNot("0 or 1")],
  ["flags", ({ flags }) => (flags & ~WindowFlags.all) === 0, () => "has bits that say nothing"],
  ["faults", ({ faults }) => (faults & ~FunctionFaults.all) === 0, () => "has unknown bits"],
  ["tablesWritten", ({ tablesWritten }) => isOneBit(tablesWritten), isNot("0 or 1")],
  [
    "mailbox",
    ({ flags, mailbox }) => (flags & executing) === 0 || ((mailbox[0] as number) & busy) !== 0,
    () => "executes nothing, but its flags say so",
  ],
  ["messages", ({ messages }) => messages <= messagesMax, isNot("a number of messages")],
  ["incoming", messagesFit, isNot("messages of a PF")],
  ["reserved", ({ reserved }) => reserved === 0, isNot("zero")],
];
