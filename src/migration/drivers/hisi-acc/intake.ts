import type { Struct } from "../../../base/struct.ts";
import { AccMatch, AccVfData, AccVfState } from "../../../spec/acc-vf-data.ts";
import type { Section } from "../../driver.ts";
import { queueProblem } from "./contexts.ts";
import {
  eventsProblem,
  type Fit,
  functionRules,
  matchRules,
  problemOf,
  vfDataRules,
} from "./rules.ts";
import {
  AccSection,
  type AccState,
  FunctionEntry,
  type FunctionState,
  type Match,
  QueueEntry,
  type QueueState,
  sectionNames,
  sectionVersion,
  type VfData,
} from "./sections.ts";

type AnyStruct<T> = Pick<Struct<never>, "size"> & { get(view: DataView, at: number): T };

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A payload of this structure, or the sentence about its length. */
function decode<T>(bytes: Uint8Array, shape: AnyStruct<T>): T | string {
  if (bytes.length === shape.size) return shape.get(viewOf(bytes), 0);
  return `it has ${bytes.length} bytes, not ${shape.size}`;
}

/**
 * Takes the sections of a stream and believes none of them: each is decoded whole and every value
 * checked against the device, which nothing of it reaches before `state` is asked for.
 */
export class Intake {
  readonly #fit: Fit;
  readonly #seen = new Set<number>();
  #match: Match | null = null;
  #data: VfData | null = null;
  #queues: QueueState[] | null = null;
  #function: FunctionState | null = null;

  constructor(fit: Fit) {
    this.#fit = fit;
  }

  /** A sentence when the section makes no sense. */
  accept({ kind, version, optional, bytes }: Section): string | null {
    const take = takers[kind];
    if (take === undefined) return optional ? null : "it is unknown here";
    if (version !== sectionVersion) {
      return optional ? null : `it is of version ${version}, not ${sectionVersion}`;
    }
    if (this.#seen.has(kind)) return "there is a second one";
    this.#seen.add(kind);
    return take(this, bytes);
  }

  /** What both sides agree on, before the rest comes: it is checked and forgotten. */
  match(bytes: Uint8Array): string | null {
    const match = decode(bytes, AccMatch);
    return typeof match === "string" ? match : problemOf(matchRules, match, this.#fit);
  }

  vfData(bytes: Uint8Array): string | null {
    if (bytes.length === AccMatch.size) return this.#matchAlone(bytes);
    const data = decode(bytes, AccVfData);
    if (typeof data === "string") return `${data} or ${AccMatch.size}`;
    const wrong =
      problemOf(matchRules, data, this.#fit) ??
      problemOf(vfDataRules, data, this.#fit) ??
      eventsProblem(data);
    if (wrong === null) this.#match = this.#data = data;
    return wrong;
  }

  #matchAlone(bytes: Uint8Array): string | null {
    const match = AccMatch.get(viewOf(bytes), 0);
    const wrong = problemOf(matchRules, match, this.#fit);
    if (wrong !== null) return wrong;
    if (match.vfQmState !== AccVfState.notReady) return "its vfQmState is 0, but there is no more";
    this.#match = match;
    return null;
  }

  queues(bytes: Uint8Array): string | null {
    const { queueCount } = this.#fit;
    const count = bytes.length / QueueEntry.size;
    if (!Number.isInteger(count)) return `its ${bytes.length} bytes are no queues`;
    if (count > queueCount) return `it has ${count} of ${queueCount} queues`;
    const view = viewOf(bytes);
    const queues: QueueState[] = [];
    for (let index = 0; index < count; index++) {
      const queue = QueueEntry.get(view, index * QueueEntry.size);
      const { number } = queue;
      // What is no queue's number may be anything of a guest's, so it is not said.
      if (number >= queueCount) return `entry ${index}: its number is not below ${queueCount}`;
      const said = this.#queueProblem(queue, queues.at(-1)?.number ?? -1);
      if (said !== null) return `queue ${number}: ${said}`;
      queues.push(queue);
    }
    this.#queues = queues;
    return null;
  }

  #queueProblem(queue: QueueState, before: number): string | null {
    if (queue.number <= before) return "its number is not above the one before";
    return queueProblem(queue, this.#fit.sqeShift);
  }

  function(bytes: Uint8Array): string | null {
    const entry = decode(bytes, FunctionEntry);
    if (typeof entry === "string") return entry;
    const wrong = problemOf(functionRules, entry, this.#fit);
    if (wrong === null) this.#function = entry;
    return wrong;
  }

  /** Whether all of it is there, and agrees: the state, or a sentence. */
  get state(): AccState | string {
    const name = sectionNames[AccSection.vfData];
    if (this.#match === null) return `the stream has no section ${name}`;
    const queues = this.#queues;
    if (this.#data === null && (queues?.length ?? 0) > 0) {
      return `section queues has queues, section ${name} says that no driver runs the function`;
    }
    return { match: this.#match, data: this.#data, queues, function: this.#function };
  }
}

const takers: Readonly<Record<number, (intake: Intake, bytes: Uint8Array) => string | null>> = {
  [AccSection.match]: (intake, bytes) => intake.match(bytes),
  [AccSection.vfData]: (intake, bytes) => intake.vfData(bytes),
  [AccSection.queues]: (intake, bytes) => intake.queues(bytes),
  [AccSection.function]: (intake, bytes) => intake.function(bytes),
};
