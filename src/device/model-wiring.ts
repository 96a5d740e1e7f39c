/** Handing the client's mappings and eventfds from one process to its successor. */
import { errno } from "../base/errno.ts";
import type { GuestFile } from "../memory/guest-file.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import type { Bar } from "./bar.ts";
import type { Interrupts } from "./interrupts.ts";
import type { IoEventfds } from "./io-eventfds.ts";
import type { DmaMapping, LineState, Wiring } from "./vfio-device.ts";

/** A guest memory's mappings; `fdOf` names the descriptor that stands for a file. */
export function mappingsOf(memory: GuestMemory, fdOf: (file: GuestFile) => number): DmaMapping[] {
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
  readonly #bars: ReadonlyArray<Bar | undefined>;

  constructor(
    memory: GuestMemory,
    interrupts: Interrupts,
    ioEventfds: IoEventfds,
    bars: ReadonlyArray<Bar | undefined>,
  ) {
    this.#memory = memory;
    this.#interrupts = interrupts;
    this.#ioEventfds = ioEventfds;
    this.#bars = bars;
  }

  /** As it is; null while a dirty log is on. The descriptors stay where they are. */
  copy(): Wiring | null {
    if (this.#memory.logging) return null;
    const mappings = mappingsOf(this.#memory, ({ fd }) => fd);
    const irqs = this.#interrupts.wires();
    return { mappings, irqs, ioEventfds: this.#ioEventfds.wires, files: this.#files };
  }

  get #files(): Wiring["files"] {
    const files = this.#bars.map((bar, region) => ({ region, fd: bar?.fd ?? -1 }));
    return files.filter(({ fd }) => fd >= 0);
  }

  /** As `VfioDevice.holdLine` has it. */
  holdLine(held: boolean): LineState {
    const up = this.#interrupts.holdLine(held);
    const offsets = this.#bars.map((bar) => bar?.quietOffset ?? -1);
    const bar = offsets.findIndex((offset) => offset >= 0);
    return { up, quiet: bar < 0 ? null : { bar, offset: offsets[bar] as number } };
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
    const files = this.#files.map(({ region, fd }) => ({ region, fd: duplicate(fd) }));
    return { mappings, irqs, ioEventfds, files };
  }

  /** Takes wiring; its descriptors are gone when it does not fit, and then a part may be wired. */
  take(wiring: Wiring): number {
    const refused = this.#interrupts.rewire(wiring.irqs);
    if (refused < 0) {
      closeWiring(wiring);
      return refused;
    }
    this.#ioEventfds.rewire(wiring.ioEventfds);
    // Files are last: what fails after that would be undone in what a client still has mapped.
    let result = takeMappings(wiring.mappings, (mapping) => this.#memory.map(mapping));
    for (const { region, fd } of wiring.files) {
      if (result < 0) closeFd(fd);
      else result = this.#bars[region]?.shadow?.take(fd) ?? -errno.EINVAL;
    }
    return result;
  }

  /**
   * Takes parked wiring together with its state, which `takeState` does; then all of it is joined
   * if the device runs. Clients store to what they have mapped all the while, and that wins over
   * the state: their files are not shown it.
   */
  takeUp(wiring: Wiring, takeState: () => number): number {
    const shadows = wiring.files.map(({ region }) => this.#bars[region]?.shadow);
    const fits = wiring.files.every(({ fd }, index) => shadows[index]?.fits(fd) === true);
    if (fits) for (const shadow of shadows) shadow?.part();
    const refused = fits ? takeState() : -errno.EINVAL;
    if (refused < 0) closeWiring(wiring);
    return refused || this.take(wiring);
  }

  /** What clients have mapped is the device's memory. */
  join(): void {
    for (const bar of this.#bars) bar?.shadow?.join();
  }
}

/** Has parked mappings mapped again; their descriptors are gone, whatever `map` answers. */
export function takeMappings(
  mappings: readonly DmaMapping[],
  map: (mapping: DmaMapping) => number,
): number {
  const files = new Set(mappings.map(({ fd }) => fd));
  let result = 0;
  for (const mapping of mappings) {
    if (result < 0) break;
    const fd = mapping.fd < 0 ? -1 : duplicate(mapping.fd);
    if (mapping.fd >= 0 && fd < 0) result = fd;
    else result = map({ ...mapping, fd });
    if (result < 0) closeFd(fd);
  }
  for (const fd of files) closeFd(fd);
  return result;
}

/** Closes every descriptor of wiring that nobody takes. */
export function closeWiring({ mappings, irqs, ioEventfds, files }: Wiring): void {
  const fds = new Set<number>();
  for (const { fd } of mappings) fds.add(fd);
  for (const { trigger, unmask } of irqs) fds.add(trigger).add(unmask);
  for (const { fd } of [...ioEventfds, ...files]) fds.add(fd);
  for (const fd of fds) closeFd(fd);
}
