/** Interrupts that a server on another host sends as messages. */
import { Header, Interrupt, interruptEntriesMax, OwnCommand } from "../spec/vfio-user.ts";
import { closeFd } from "../sys/descriptors.ts";
import type { Link } from "./link.ts";

/** Who hears of them. */
export interface IrqPort {
  /** A vector was raised so often; false when the device has no such vector. */
  raised(index: number, vector: number, count: number): boolean;
}

/**
 * Tells a port of the interrupts in the message at the framer's place: 1; 0 for another kind of
 * message; -1 for one that makes no sense, and then a part of it may have been told.
 */
export function serveInterrupts({ framer, incoming }: Link, port: IrqPort): -1 | 0 | 1 {
  const { view } = incoming;
  const { at, size } = framer;
  if (view.getUint16(at + Header.offset.command, true) !== OwnCommand.interrupt) return 0;
  for (const fd of framer.takeFds()) closeFd(fd);
  const entries = (size - Header.size) / Interrupt.size;
  if (!Number.isInteger(entries) || entries < 1 || entries > interruptEntriesMax) return -1;
  const { index, vector, count } = Interrupt.offset;
  for (let place = at + Header.size; place < at + size; place += Interrupt.size) {
    const known = port.raised(
      view.getUint32(place + index, true),
      view.getUint32(place + vector, true),
      view.getUint32(place + count, true),
    );
    if (!known) return -1;
  }
  return 1;
}
