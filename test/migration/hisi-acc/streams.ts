/** Streams that no driver would send, in an envelope in which nothing is wrong. */
import type { Struct } from "../../../src/base/struct.ts";
import type { Section } from "../../../src/migration/driver.ts";
import { AccSection } from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { savePciState } from "../../../src/migration/pci-state.ts";
import { formatHeader } from "../../../src/migration/stream-header.ts";
import { StreamWriter } from "../../../src/migration/stream-writer.ts";
import { StreamSection } from "../../../src/spec/ferry-stream.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { CopySink } from "../../device/vmm.ts";
import type { Host } from "./bench.ts";

const streamBytesMax = 1 << 20;

/** The driver's sections of a function that stands still, by kind. */
export function savedSections(host: Host): Map<number, Section> {
  const { result } = host.move(MigState.stopCopy);
  if (result < 0) throw new Error(`not saved: ${result}`);
  const sections = new Map<number, Section>();
  for (;;) {
    const section = host.migration.next();
    if (section === null) return sections;
    sections.set(section.kind, { ...section, bytes: section.bytes.slice() });
  }
}

/** A stream of these sections for a host's device. */
export function streamOf(host: Host, sections: Iterable<Section>): Uint8Array<ArrayBuffer> {
  const bytes = savePciState(host.device);
  const pci = { kind: StreamSection.pci, version: 1, optional: false, bytes, address: 0 };
  const left = [pci, ...sections];
  const writer = new StreamWriter();
  writer.begin(formatHeader(host.migration.compatibility, 1));
  const sink = new CopySink(streamBytesMax);
  const count = writer.read(sink, streamBytesMax, () => left.shift() ?? null, true);
  return new Uint8Array(sink.take(count));
}

/** A section with some fields of its structure, or of one of its entries, changed. */
export function changed<T extends object>(
  section: Section,
  shape: Pick<Struct<never>, "size"> & {
    get(view: DataView, at: number): T;
    set(view: DataView, at: number, values: T): void;
  },
  changes: Partial<T>,
  entry = 0,
): Section {
  const bytes = section.bytes.slice();
  const view = new DataView(bytes.buffer);
  const at = entry * shape.size;
  shape.set(view, at, { ...shape.get(view, at), ...changes });
  return { ...section, bytes };
}

/** A section with one word changed. */
export function withWord(section: Section, offset: number, value: number): Section {
  const bytes = section.bytes.slice();
  new DataView(bytes.buffer).setUint32(offset, value, true);
  return { ...section, bytes };
}

/** All sections, with one replaced. */
export const withSection = (all: ReadonlyMap<number, Section>, section: Section): Section[] => [
  ...new Map(all).set(section.kind, section).values(),
];

export { AccSection };
