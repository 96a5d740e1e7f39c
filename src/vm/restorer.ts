/**
 * Gives the target's QEMU its copy of its devices' configuration space. All that takes long, its
 * debugger's stub and the first use of everything, is done before the VM stands still.
 */
import { FerryError } from "../base/errors.ts";
import { servedBy } from "./device-server.ts";
import type { Access, GdbStub } from "./gdb-stub.ts";
import type { Qemu } from "./qemu.ts";
import { doesNotServe } from "./vm-device.ts";
import type { VmDevices } from "./vm-devices.ts";

/** The restoring of all devices of one VM. */
export class Restorer {
  readonly #target: Qemu;
  readonly #devices: VmDevices;
  #stub: GdbStub | null = null;
  /** What each device's server had served before the target's QEMU was told to read. */
  #before: readonly number[] = [];

  constructor(target: Qemu, devices: VmDevices) {
    this.#target = target;
    this.#devices = devices;
  }

  /** Opens the stub of a QEMU that waits for its VM. */
  async open(): Promise<void> {
    this.#stub = await this.#target.openStub();
  }

  /** Remembers what has been served until now. The later, the less does it say of another VM. */
  async look(): Promise<void> {
    this.#before = await this.#served();
  }

  /**
   * Does once, harmlessly, what is done while nothing runs. Nothing has to be there yet, because
   * bridges get their numbers with the VM.
   */
  async rehearse(ecam: number): Promise<void> {
    const { all, ids } = this.#devices;
    const reads = all.map((device) => device.identity(ecam));
    await Promise.all([
      this.#target.findFunctions(ids).catch(unless("no-device")),
      this.#opened.run(reads).catch(unless("gdb-refused")),
      this.#served(),
    ]);
  }

  get #opened(): GdbStub {
    if (this.#stub === null) throw new FerryError("no-stub", "there is no debugger's stub.");
    return this.#stub;
  }

  /** Restores all; throws unless they are there, and with the servers that are to have them. */
  async restore(ecam: number): Promise<void> {
    if (this.#devices.all.length > 1) await this.#tellApart(ecam);
    let begun = (): void => {};
    const first = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const written = this.#write(ecam, begun);
    const served = Promise.race([first, written]).then(() => this.#expectServed());
    const there = early(() => this.#expectThere(), written);
    await Promise.allSettled([served, written, there]);
    await Promise.all([served, written, there]);
  }

  /**
   * Servers that were exchanged have each other's state, and nothing is written to them. Device n
   * is read n times, once more than the one before it: whatever the exchange, one server is then
   * asked less often.
   */
  async #tellApart(ecam: number): Promise<void> {
    await this.look();
    const reads = this.#devices.all.map((device) => device.identity(ecam));
    await this.#opened.run(reads.flatMap((read, turn) => Array<Access>(turn + 1).fill(read)));
    await this.#expectServed();
  }

  /** Writes and reads back everything at once; what is found is looked at afterwards. */
  async #write(ecam: number, begun: () => void): Promise<void> {
    const { all } = this.#devices;
    const accesses = all.flatMap((device) => device.restoring(ecam));
    const values = await this.#opened.run(accesses, begun);
    for (const device of all) device.expectRestored(ecam, values);
  }

  async #expectThere(): Promise<void> {
    const found = await this.#target.findFunctions(this.#devices.ids);
    for (const [index, device] of this.#devices.all.entries()) device.expectThere(found[index]);
  }

  async #served(): Promise<number[]> {
    return await Promise.all(this.#devices.all.map(({ to }) => servedBy(to)));
  }

  /** What was asked has reached the servers that have the states, and no others. */
  async #expectServed(): Promise<void> {
    const served = await this.#served();
    const { all } = this.#devices;
    const wrong = all.find((_, turn) => (served[turn] ?? 0) <= (this.#before[turn] ?? 0) + turn);
    if (wrong !== undefined) throw doesNotServe(wrong.to, this.#target);
  }

  /** No stub is left: done before the VM runs. */
  async close(): Promise<void> {
    const stub = this.#stub;
    this.#stub = null;
    if (stub !== null) await this.#target.closeStub(stub);
  }

  /** The target goes, and nothing is said to it any more. */
  drop(): void {
    this.#stub?.close();
  }
}

/** Throws on whatever else goes wrong. */
const unless = (code: string) => (thrown: unknown) => {
  if (!(thrown instanceof FerryError) || thrown.code !== code) throw thrown;
};

/** Asks at once, while the answer may still be no, and otherwise again when it has to be yes. */
async function early(ask: () => Promise<void>, done: Promise<void>): Promise<void> {
  try {
    await ask();
  } catch {
    await done;
    await ask();
  }
}
