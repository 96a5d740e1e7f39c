/** Handing the client's mappings and eventfds from one process to its successor. */
import type { GuestFile } from "../memory/guest-file.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import type { Interrupts } from "./interrupts.ts";
import type { IoEventfds } from "./io-eventfds.ts";
import type { DmaMapping, Wiring } from "./vfio-device.ts";

/** A guest memory's mappings; `fdOf` names the descriptor that stands for a file. */
function mappingsOf(memory: GuestMemory, fdOf: (file: GuestFile) => number): DmaMapping[] {
  return memory.regions.map((region): DmaMapping => {
    const { iova, size, readable, writable, file, shift, mayMap } = region;
    const fd = file === null ? -1 : fdOf(file);
    const offset = file === null ? 0 : iova + shift;
    return { iova, size, readable, writable, fd, offset, mayMap };
  });
}

/** Everything of a model that a client has connected. */
export class ModelWiring {
  readonly #memory: GuestMemory;
  readonly #interrupts: Interrupts;
  readonly #ioEventfds: IoEventfds;

  constructor(memory: GuestMemory, interrupts: Interrupts, ioEventfds: IoEventfds) {
    this.#memory = memory;
    this.#interrupts = interrupts;
    this.#ioEventfds = ioEventfds;
  }

  /** As it is; null while a dirty log is on. The descriptors stay where they are. */
  copy(): Wiring | null {
    if (this.#memory.logging) return null;
    const mappings = mappingsOf(this.#memory, ({ fd }) => fd);
    return { mappings, irqs: this.#interrupts.wires(), ioEventfds: this.#ioEventfds.wires };
  }

  /** Lets go of all of it; mappings of one file have the same descriptor. */
  park(): Wiring {
    const irqs = this.#interrupts.wires();
    this.#interrupts.release();
    const ioEventfds = this.#ioEventfds.wires;
    this.#ioEventfds.rewire([]);
    const fds = new Map<GuestFile, number>();
    const mappings = mappingsOf(this.#memory, (file) => {
      const fd = fds.get(file) ?? duplicate(file.fd);
      fds.set(file, fd);
      return fd;
    });
    this.#memory.unmapAll();
    return { mappings, irqs, ioEventfds };
  }

  /** Takes wiring; its descriptors are gone when it does not fit, and then a part may be wired. */
  take(wiring: Wiring): number {
    const refused = this.#interrupts.rewire(wiring.irqs);
    if (refused < 0) closeWiring(wiring);
    else this.#ioEventfds.rewire(wiring.ioEventfds);
    return refused || takeMappings(this.#memory, wiring.mappings);
  }
}

/** Puts parked mappings into a guest memory; their descriptors are gone, whatever it answers. */
function takeMappings(memory: GuestMemory, mappings: readonly DmaMapping[]): number {
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
