/**
 * States as Linux's `hisi_acc_vfio_pci` sends and takes them: one structure, of 176 bytes or, when
 * no driver runs the function, 40. Our section of that is the same bytes. What else we send must be
 * nothing that matters, or lie in the guest's memory.
 */
import { AccMatch, AccVfData, accMagic, accVersion } from "../../../spec/acc-vf-data.ts";
import { QueueFlags, WindowFlags } from "../../../spec/hisi-qm-control.ts";
import type { Section } from "../../driver.ts";
import { eventAddress } from "./contexts.ts";
import {
  AccSection,
  FunctionEntry,
  QueueEntry,
  type QueueState,
  sectionVersion,
} from "./sections.ts";

type Payload = Pick<Section, "kind" | "bytes">;

const { sq, cq, stopped } = QueueFlags.mask;
const { executing, eqOverflow } = WindowFlags.mask;
const inTables = sq | cq | stopped;

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function queuesOf(bytes: Uint8Array | undefined): QueueState[] {
  const view = viewOf(bytes ?? new Uint8Array(0));
  const count = Math.floor(view.byteLength / QueueEntry.size);
  return Array.from({ length: count }, (_, i) => QueueEntry.get(view, i * QueueEntry.size));
}

/** What of the other sections the kernel's structure has no place for; null when nothing. */
function unsaid(queues: readonly QueueState[], entry: Uint8Array | undefined): string | null {
  const both = sq | cq;
  // A queue without contexts may be stopped, by a command to all of them: it says nothing.
  const halves = ({ flags }: QueueState): boolean =>
    (flags & both) !== 0 && (flags & both) !== both;
  const odd = queues.find((queue) => (queue.flags & ~inTables) !== 0 || halves(queue));
  if (odd !== undefined) return `queue ${odd.number} is in the middle of something`;
  if (entry === undefined) return null;
  const { flags, messages, tablesWritten } = FunctionEntry.get(viewOf(entry), 0);
  if ((flags & executing) !== 0) return "a mailbox command of the guest's is under way";
  if ((flags & eqOverflow) !== 0) return "the guest has not been told that its EQ overflows";
  if (messages > 0) return "messages of the physical function wait for the guest";
  const there = tablesWritten !== 0 || queues.every(({ flags }) => (flags & both) === 0);
  return there ? null : "the queues' contexts are not in the guest's memory";
}

/** The kernel's bytes of a saved state's sections, or a sentence why it cannot have them. */
export function toLinux(sections: Iterable<Payload>): Uint8Array | string {
  const byKind = new Map<number, Uint8Array>();
  for (const { kind, bytes } of sections) byKind.set(kind, bytes);
  const data = byKind.get(AccSection.vfData);
  if (data === undefined) return "this is no state of a HiSilicon accelerator's VF";
  const said = unsaid(queuesOf(byKind.get(AccSection.queues)), byKind.get(AccSection.function));
  return said ?? data.slice();
}

/** How much is taken from an older kernel. */
export interface FromLinuxOptions {
  /** Also takes what kernels before 6.16 send: they garble two addresses, which are not needed. */
  readonly acceptV1?: boolean;
}

/** The sections of a kernel's bytes, or a sentence. Whether they fit a device is not asked here. */
export function fromLinux(bytes: Uint8Array, options: FromLinuxOptions = {}): Section[] | string {
  const { length } = bytes;
  if (length !== AccMatch.size && length !== AccVfData.size) {
    const sizes = `${AccVfData.size} or ${AccMatch.size}`;
    return `${length} bytes are no state of the kernel's driver, which has ${sizes}`;
  }
  const own = bytes.slice();
  const view = viewOf(own);
  const { magic } = AccMatch.get(view, 0);
  if (magic.every((word, i) => word === accMagic.v1[i])) {
    if (options.acceptV1 !== true) return "the state is of version 1, which is not taken";
    upgrade(view);
  }
  const kind = AccSection.vfData;
  return [{ kind, version: sectionVersion, optional: false, bytes: own, address: 0 }];
}

/** Makes version 2 of version 1: it says the same with the addresses as they are programmed. */
function upgrade(view: DataView): void {
  AccMatch.set(view, 0, { ...AccMatch.get(view, 0), magic: [...accMagic.v2], ...accVersion });
  if (view.byteLength < AccVfData.size) return;
  const data = AccVfData.get(view, 0);
  const eqAddress = eventAddress(data.eqc);
  AccVfData.set(view, 0, { ...data, eqAddress, aeqAddress: eventAddress(data.aeqc) });
}
