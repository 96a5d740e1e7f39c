/** Handing the client's mappings and eventfds from one process to its successor. */
import type { GuestFile } from "../memory/guest-file.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import type { DmaMapping, Wiring } from "./vfio-device.ts";

/**
 * Takes all mappings out of a guest memory and returns them, a descriptor a file: mappings of one
 * file have the same one.
 */
export function parkMappings(memory: GuestMemory): DmaMapping[] {
  const fds = new Map<GuestFile, number>();
  const mappings = memory.regions.map((region): DmaMapping => {
    const { iova, size, readable, writable, file, shift, mayMap } = region;
    const known = file === null ? -1 : (fds.get(file) ?? duplicate(file.fd));
    if (file !== null) fds.set(file, known);
    const offset = file === null ? 0 : iova + shift;
    return { iova, size, readable, writable, fd: known, offset, mayMap };
  });
  memory.unmapAll();
  return mappings;
}

/** Puts parked mappings into a guest memory; their descriptors are gone, whatever it answers. */
export function takeMappings(memory: GuestMemory, mappings: readonly DmaMapping[]): number {
  const files = new Set(mappings.map(({ fd }) => fd));
  let result = 0;
  for (const mapping of mappings) {
    if (result < 0) break;
    const fd = mapping.fd < 0 ? -1 : duplicate(mapping.fd);
    if (mapping.fd >= 0 && fd < 0) result = fd;
    else result = memory.map({ ...mapping, fd });
    if (result < 0) closeFd(fd);
  }
  for (const fd of files) closeFd(fd);
  return result;
}

/** Closes every descriptor of wiring that nobody takes. */
export function closeWiring({ mappings, irqs, ioEventfds }: Wiring): void {
  const fds = new Set<number>();
  for (const { fd } of mappings) fds.add(fd);
  for (const { trigger, unmask } of irqs) fds.add(trigger).add(unmask);
  for (const { fd } of ioEventfds) fds.add(fd);
  for (const fd of fds) closeFd(fd);
}
