/** Bugs in an accelerator's queue manager, and in the driver that migrates it. */
import { errno } from "../../src/base/errno.ts";
import { QueueContexts } from "../../src/devices/hisi-acc/qm/queue-contexts.ts";
import { QueueManager } from "../../src/devices/hisi-acc/qm/queue-manager.ts";
import { QueueRecord } from "../../src/devices/hisi-acc/qm/state.ts";
import { FunctionRegisters } from "../../src/migration/drivers/hisi-acc/function-registers.ts";
import { GuestMailbox } from "../../src/migration/drivers/hisi-acc/guest-mailbox.ts";
import { isBusy } from "../../src/migration/drivers/hisi-acc/mailbox.ts";
import { OwnControl } from "../../src/migration/drivers/hisi-acc/own-control.ts";
import { QmPort } from "../../src/migration/drivers/hisi-acc/port.ts";
import { SiliconControl } from "../../src/migration/drivers/hisi-acc/silicon-control.ts";
import { ended } from "../../src/migration/step.ts";
import { Cqc, CqcDw6, Sqc } from "../../src/spec/hisi-qm.ts";
import type { Mutation } from "../mutation.ts";
import { wrap } from "./patch.ts";

/** Changes a queue's record as it is put into a function. */
const changesQueues = (change: (record: DataView) => void) => () =>
  wrap(
    QueueContexts,
    "replace",
    (own) =>
      function (queue, record) {
        const copy = record.slice();
        change(new DataView(copy.buffer));
        return own.call(this, queue, copy);
      },
  );

const cqcDw6At = QueueRecord.offset.cqc + Cqc.offset.dw6;

export const forgetsPhase: Mutation = {
  name: "forgets-phase",
  what: "a completion queue begins with the phase of a fresh one where it arrives",
  patch: changesQueues((record) => {
    const dw6 = record.getUint32(cqcDw6At, true);
    record.setUint32(cqcDw6At, dw6 | CqcDw6.mask.phase, true);
  }),
};

export const losesLast: Mutation = {
  name: "loses-last",
  what: "the tail of a queue is one too low where it arrives",
  patch: changesQueues((record) => {
    const [head, tail] = [Sqc.offset.head, Sqc.offset.tail].map((at) => record.getUint16(at, true));
    if (tail !== head && tail !== 0) record.setUint16(Sqc.offset.tail, (tail as number) - 1, true);
  }),
};

export const leavesQueue: Mutation = {
  name: "leaves-queue",
  what: "silicon's first queue is not told to go on",
  patch: () =>
    wrap(
      QmPort,
      "resume",
      (own) =>
        function (queue) {
          if (queue !== 0) own.call(this, queue);
        },
    ),
};

export const keepsMailbox: Mutation = {
  name: "keeps-mailbox",
  what: "silicon's mailbox is not put back when the function goes on",
  patch: () => wrap(GuestMailbox, "giveBack", () => () => ended(0)),
};

export const disarms: Mutation = {
  name: "disarms",
  what: "a completion queue has no more events to tell where it arrives",
  patch: changesQueues((record) => {
    const dw6 = record.getUint32(cqcDw6At, true);
    record.setUint32(cqcDw6At, dw6 & ~CqcDw6.mask.armed, true);
  }),
};

export const raisesNothing: Mutation = {
  name: "raises-nothing",
  what: "interrupts that were lost on the way are not raised again",
  patch: () => wrap(FunctionRegisters, "raise", () => () => {}),
};

export const believesTables: Mutation = {
  name: "believes-tables",
  what: "silicon takes a state that it cannot hold",
  patch: () => wrap(SiliconControl, "lacks", () => () => null),
};

export const leavesMailbox: Mutation = {
  name: "leaves-mailbox",
  what: "what the guest's mailbox holds is left behind",
  patch: () => wrap(OwnControl, "finish", () => () => ended(0)),
};

export const grantsVeto: Mutation = {
  name: "grants-veto",
  what: "a guest that keeps its mailbox busy keeps its function where it is",
  patch: () =>
    wrap(
      OwnControl,
      "find",
      (own) =>
        function* () {
          const result = yield* own.call(this);
          return isBusy(this.found?.function.mailbox ?? [0]) ? -errno.EBUSY : result;
        },
    ),
};

export const cutsOutput: Mutation = {
  name: "cuts-output",
  what: "a device is parked while its output is being put over its input",
  patch: () =>
    wrap(
      QueueManager,
      "rest",
      (own) =>
        function (on) {
          own.call(this, on);
          return true;
        },
    ),
};
