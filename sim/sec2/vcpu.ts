import * as raw from "../../src/client/raw-requests.ts";
import type { Watch } from "../../src/device/vfio-device.ts";
import { Wrapper } from "../../src/device/wrapper.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import type { Guest } from "../guest.ts";
import type { Answer } from "../vmm.ts";

/** A read whose answer is not there yet: the vCPU stands. */
class Unanswered {
  readonly answer: Promise<Answer>;

  constructor(answer: Promise<Answer>) {
    this.answer = answer;
  }
}

const noWatches: readonly Watch[] = [];
/** How long a vCPU takes from one read to the next at most. */
const readMsMax = 2;

/**
 * The device as a driver sees it that blocks in its reads, although every answer comes as a message
 * and later. Whenever one is missing the driver is stopped where it is, and run again from its
 * beginning when the answer is there: it then finds all that it has read before, and what it has
 * written is not written again. So what is run must do the same each time. Without a guest it is
 * the device itself.
 */
export class Vcpu extends Wrapper {
  #guest: Guest | null = null;
  /** What has happened in this run: answers of reads; nothing for writes. */
  #past: Array<Answer | null> = [];
  #at = 0;
  #writes: Array<Promise<void>> = [];
  /** The read for which the driver stands. */
  #asked: Promise<Answer> | null = null;

  /** From here on it is this guest's. */
  of(guest: Guest): void {
    this.#guest = guest;
  }

  /** Runs a part of the driver; done when it has come to its end and the device has all of it. */
  async run(part: () => void): Promise<void> {
    await this.#guest?.vcpus();
    this.#past = [];
    this.#writes = [];
    while (!this.#runs(part)) this.#past.push((await this.#asked) as Answer);
    await Promise.all(this.#writes);
  }

  /** Runs it as far as the answers reach; false when one is missing. */
  #runs(part: () => void): boolean {
    this.#at = 0;
    try {
      part();
      return true;
    } catch (thrown) {
      if (!(thrown instanceof Unanswered)) throw thrown;
      this.#asked = thrown.answer;
      return false;
    }
  }

  override read(...given: Parameters<Wrapper["read"]>): number {
    const guest = this.#guest;
    if (guest === null) return super.read(...given);
    const [region, offset, bytes, at, count] = given;
    const answer = this.#past[this.#at++];
    if (answer === undefined) throw new Unanswered(ask(guest, region, offset, count));
    if (answer === null || answer.error !== 0) return -(answer?.error ?? 0);
    bytes.set(answer.payload.subarray(-count), at);
    return count;
  }

  override write(...given: Parameters<Wrapper["write"]>): number {
    const guest = this.#guest;
    if (guest === null) return super.write(...given);
    const [region, offset, bytes, at, count] = given;
    if (this.#at++ < this.#past.length) return count;
    const data = bytes.slice(at, at + count);
    const isConfig = region === PciRegion.config;
    this.#past.push(null);
    this.#writes.push(
      isConfig ? guest.writeConfig(offset, data) : guest.store(region, offset, data),
    );
    return count;
  }

  /** A guest has reset it in its own way before the driver begins anew. */
  override reset(): number {
    return this.#guest === null ? super.reset() : 0;
  }

  /** Nobody waits here: who has nothing to do looks again later. */
  override get busy(): boolean {
    return this.#guest !== null || super.busy;
  }

  override work(): void {
    if (this.#guest === null) super.work();
  }

  override get watches(): readonly Watch[] {
    return this.#guest === null ? super.watches : noWatches;
  }
}

async function ask(guest: Guest, region: number, offset: number, count: number): Promise<Answer> {
  const { world, random } = guest;
  await world.clock.sleep(random.below(readMsMax));
  return await guest.ask(raw.regionRead(region, offset, count));
}
