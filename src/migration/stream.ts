import { errno } from "../base/errno.ts";
import type { MigrationSink, VfioDevice } from "../device/vfio-device.ts";
import { StreamSection } from "../spec/ferry-stream.ts";
import type { Compatibility, MigrationDriver, Section } from "./driver.ts";
import { checkPciState, loadPciState, savePciState } from "./pci-state.ts";
import { formatHeader, judgeHeader } from "./stream-header.ts";
import { StreamReader } from "./stream-reader.ts";
import { StreamWriter } from "./stream-writer.ts";

const ownNames: Readonly<Record<number, string>> = {
  [StreamSection.end]: "end",
  [StreamSection.pci]: "pci",
};

/**
 * The stream of one device, in both directions: the driver's sections, and before the first of them
 * what of the state is the envelope's own. A device that has VFIO's migration itself brings its
 * configuration space along; where neither is there, the VMM's own writes have to do.
 */
export class Stream {
  readonly #driver: MigrationDriver;
  readonly #guest: VfioDevice;
  readonly #writer = new StreamWriter();
  #reader: StreamReader | null = null;
  #pciGiven = true;
  #pci: Uint8Array | null = null;

  constructor(driver: MigrationDriver, guest: VfioDevice) {
    this.#driver = driver;
    this.#guest = guest;
  }

  /** A new stream is going to be read. */
  begin(identifier: number): void {
    this.#writer.begin(formatHeader(this.#driver.compatibility, identifier));
    this.#pciGiven = this.#driver.native;
  }

  /**
   * As `readMigration` of the device contract; `final` once the device stands still. `uncut`: for
   * somebody to whom fewer bytes than asked for are not the end.
   */
  read(sink: MigrationSink, length: number, final: boolean, uncut: boolean): number {
    if (this.#driver.passesOn === true) return this.#guest.readMigration(sink, length);
    return this.#writer.read(sink, length, final ? this.#nextFinal : this.#next, final, uncut);
  }

  readonly #next = (): Section | null => this.#driver.next();

  readonly #nextFinal = (): Section | null => {
    if (this.#pciGiven) return this.#driver.next();
    this.#pciGiven = true;
    const bytes = savePciState(this.#guest);
    return { kind: StreamSection.pci, version: 1, optional: false, bytes, address: 0 };
  };

  /** A new stream is going to be written; what came before is forgotten. */
  receive(): void {
    this.#driver.discard();
    this.#pci = null;
    const ours: Compatibility = this.#driver.compatibility;
    this.#reader = new StreamReader({
      header: (bytes) => judgeHeader(bytes, ours),
      section: (section) => this.#accept(section),
      nameOf: (kind) => this.#nameOf(kind),
    });
  }

  #nameOf(kind: number): string {
    const name = ownNames[kind] ?? this.#driver.sectionNames?.[kind];
    return name ?? `kind 0x${kind.toString(16)}`;
  }

  #accept(section: Section): string | null {
    if (section.kind !== StreamSection.pci) return this.#driver.accept(section);
    if (this.#driver.native) return "this device brings its own";
    if (this.#pci !== null) return "there is a second one";
    const wrong = checkPciState(section.bytes, this.#guest);
    if (wrong === null) this.#pci = section.bytes.slice();
    return wrong;
  }

  /** Takes the next bytes: 0, or EINVAL once the stream is refused. */
  write(bytes: Uint8Array, at: number, length: number): number {
    const said =
      this.#driver.passesOn === true
        ? this.#passOn(bytes.subarray(at, at + length))
        : this.#reader?.write(bytes, at, length);
    return said === null ? 0 : -errno.EINVAL;
  }

  #passOn(bytes: Uint8Array): string | null {
    return this.#driver.accept({ kind: 0, version: 1, optional: false, bytes, address: 0 });
  }

  /** Why the stream that came cannot be loaded; null when it can. */
  check(): string | null {
    const reader = this.#reader;
    if (reader === null) return "no stream has come";
    if (this.#driver.passesOn === true) return this.#driver.check();
    const short = reader.shortcoming;
    if (short !== null) return short;
    return this.#driver.check();
  }

  /** What the stream was refused for so far. */
  get refusal(): string | null {
    return this.#reader?.refusal ?? null;
  }

  /** Puts what is the envelope's own into the device: the rest was loaded. */
  commit(): void {
    if (this.#pci !== null) loadPciState(this.#pci, this.#guest);
  }

  /** Neither direction any more. */
  end(): void {
    this.#driver.discard();
    this.#reader = null;
    this.#pci = null;
  }
}
