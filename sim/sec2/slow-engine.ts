import type { ComputeService, GuestReader, Outcome } from "../../src/devices/hisi-acc/engine.ts";
import type { ComputePort } from "../../src/devices/hisi-acc/qm/compute-port.ts";
import { Sec2Engine } from "../../src/devices/hisi-acc/sec2/engine.ts";
import type { Life } from "../kind.ts";

/** What a request takes at most, as a rule and now and then: longer than it is waited for. */
const quickMsMax = 20;
const slowMsMax = 1500;

/**
 * The shipped engine, which computes small requests at once, and then takes the time that a big one
 * would: something is under way whatever happens. It is its own compute service, without threads.
 */
export class SlowEngine extends Sec2Engine implements ComputePort {
  settled = 0;
  readonly watches = [];
  readonly #life: Life;

  constructor(life: Life) {
    super();
    this.#life = life;
  }

  override *serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const outcome = yield* super.serve(sqe, algType, memory, compute);
    yield* this.compute();
    return outcome;
  }

  /** Takes time, and gives nothing: no request here is too long for the device's thread. */
  *compute(): Generator<void, null> {
    const { random, after } = this.#life;
    if (random.oneIn(2)) return null;
    let over = false;
    after(random.below(random.oneIn(12) ? slowMsMax : quickMsMax), () => {
      over = true;
      this.settled += 1;
    });
    while (!over) yield;
    return null;
  }

  discard(): void {}
}
