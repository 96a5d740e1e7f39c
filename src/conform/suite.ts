import { FerryError, messageOf } from "../base/errors.ts";
import { type Case, Mismatch } from "./case.ts";
import { cases as deviceFeature } from "./cases/device-feature.ts";
import { cases as deviceGetInfo } from "./cases/device-get-info.ts";
import { cases as dirtyLog } from "./cases/dirty-log.ts";
import { cases as dmaAccess } from "./cases/dma-access.ts";
import { cases as dmaMap } from "./cases/dma-map.ts";
import { cases as dmaUnmap } from "./cases/dma-unmap.ts";
import { cases as framing } from "./cases/framing.ts";
import { cases as irqInfo } from "./cases/irq-info.ts";
import { cases as irqMessages } from "./cases/irq-messages.ts";
import { cases as migData } from "./cases/mig-data.ts";
import { cases as migration } from "./cases/migration.ts";
import { cases as pciConfig } from "./cases/pci-config.ts";
import { cases as precopyInfo } from "./cases/precopy-info.ts";
import { cases as regionInfo } from "./cases/region-info.ts";
import { cases as regionIoFds } from "./cases/region-io-fds.ts";
import { cases as regionRead } from "./cases/region-read.ts";
import { cases as regionWrite } from "./cases/region-write.ts";
import { cases as reset } from "./cases/reset.ts";
import { cases as setIrqs } from "./cases/set-irqs.ts";
import { cases as version } from "./cases/version.ts";
import { cases as writeMulti } from "./cases/write-multi.ts";
import { Context, defaultTimeoutMs } from "./context.ts";
import { type Offer, survey } from "./offer.ts";

/** Every case, in the order of the document. */
export const cases: readonly Case[] = [
  ...framing,
  ...version,
  ...dmaMap,
  ...dmaUnmap,
  ...deviceGetInfo,
  ...regionInfo,
  ...regionIoFds,
  ...irqInfo,
  ...setIrqs,
  ...regionRead,
  ...regionWrite,
  ...pciConfig,
  ...dmaAccess,
  ...reset,
  ...writeMulti,
  ...deviceFeature,
  ...migration,
  ...migData,
  ...precopyInfo,
  ...irqMessages,
  ...dirtyLog,
];

export type Outcome =
  | { readonly outcome: "pass" }
  | { readonly outcome: "fail"; readonly expected: string; readonly came: string }
  | { readonly outcome: "skip"; readonly why: string };

/** One case with what became of it. */
export interface Result {
  readonly case: Case;
  readonly outcome: Outcome;
}

/** Asks a server once what it offers; throws when it does not even do that. */
export function surveyServer(path: string, timeoutMs = defaultTimeoutMs): Offer {
  const context = new Context(path, null, timeoutMs);
  try {
    return survey(context.open());
  } catch (thrown) {
    if (!(thrown instanceof Mismatch)) throw thrown;
    throw new FerryError(
      "no-answer",
      `${path} does not tell what it offers: expected ${thrown.expected}, came ${thrown.came}. ` +
        "Is it a vfio-user server, and is nobody else its client?",
    );
  } finally {
    context.end();
  }
}

function failure(thrown: unknown): Outcome {
  if (thrown instanceof Mismatch) {
    return { outcome: "fail", expected: thrown.expected, came: thrown.came };
  }
  return { outcome: "fail", expected: "an answer", came: messageOf(thrown) };
}

/** Runs one case on connections of its own, and leaves the device as other cases expect it. */
export function runCase(
  path: string,
  offer: Offer,
  each: Case,
  timeoutMs = defaultTimeoutMs,
): Outcome {
  const why = each.needs.map((need) => need(offer)).find((reason) => reason !== null);
  if (why !== undefined && why !== null) return { outcome: "skip", why };
  const context = new Context(path, offer, timeoutMs);
  let outcome: Outcome = { outcome: "pass" };
  try {
    each.run(context);
  } catch (thrown) {
    outcome = failure(thrown);
  }
  context.end();
  const after = settled(path, offer, timeoutMs);
  return outcome.outcome === "pass" && after !== null ? after : outcome;
}

/** Null when the device is as it was before; a server that is dead or stuck fails the case. */
function settled(path: string, offer: Offer, timeoutMs: number): Outcome | null {
  const context = new Context(path, offer, timeoutMs);
  try {
    context.settle();
    return null;
  } catch (thrown) {
    return failure(thrown);
  } finally {
    context.end();
  }
}

/** Runs the cases whose id matches, one after the other. */
export function* runSuite(
  path: string,
  only: RegExp | null = null,
  timeoutMs = defaultTimeoutMs,
  relayed = false,
): Generator<Result> {
  const offer = { ...surveyServer(path, timeoutMs), relayed };
  for (const each of cases) {
    if (only === null || only.test(each.id)) {
      yield { case: each, outcome: runCase(path, offer, each, timeoutMs) };
    }
  }
}
