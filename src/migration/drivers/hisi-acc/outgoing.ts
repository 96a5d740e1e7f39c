/** A saved state as sections. */
import { AccMatch, AccVfData } from "../../../spec/acc-vf-data.ts";
import type { Section } from "../../driver.ts";
import {
  AccSection,
  type AccState,
  FunctionEntry,
  type FunctionState,
  type Match,
  QueueEntry,
  type QueueState,
  sectionVersion,
  type VfData,
} from "./sections.ts";

function section(kind: number, bytes: Uint8Array, optional = false): Section {
  return { kind, version: sectionVersion, optional, bytes, address: 0 };
}

function encode<T>(
  shape: { readonly size: number; set(view: DataView, at: number, values: T): void },
  all: readonly T[],
): Uint8Array {
  const bytes = new Uint8Array(all.length * shape.size);
  const view = new DataView(bytes.buffer);
  for (const [index, values] of all.entries()) shape.set(view, index * shape.size, values);
  return bytes;
}

/** The bytes of PRE_COPY's section. */
export const matchBytes = (match: Match): Uint8Array => encode(AccMatch, [match]);
const vfDataBytes = (data: VfData): Uint8Array => encode(AccVfData, [data]);
const queuesBytes = (queues: readonly QueueState[]): Uint8Array => encode(QueueEntry, queues);
const functionBytes = (entry: FunctionState): Uint8Array => encode(FunctionEntry, [entry]);

/** PRE_COPY's only section. */
export const matchSection = (match: Match): Section => section(AccSection.match, matchBytes(match));

/** All of a state, in the order that it is sent. */
export function sectionsOf({ match, data, queues, function: entry }: AccState): Section[] {
  const whole = data === null ? matchBytes(match) : vfDataBytes(data);
  const sections = [section(AccSection.vfData, whole)];
  if (data !== null && queues !== null) {
    sections.push(section(AccSection.queues, queuesBytes(queues)));
  }
  if (entry !== null) sections.push(section(AccSection.function, functionBytes(entry), true));
  return sections;
}
