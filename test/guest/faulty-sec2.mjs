/** A SEC2 that gets the first byte of some outputs wrong; for `ferry serve`. */
import { Sec2Engine } from "../../dist/devices/hisi-acc/sec2/engine.js";
import { createVf } from "../../dist/devices/hisi-acc/vf.js";

const wrongOf = 5;

class FaultyEngine extends Sec2Engine {
  #served = 0;

  *serve(sqe, algType, memory, compute) {
    const outcome = yield* super.serve(sqe, algType, memory, compute);
    this.#served += 1;
    if (typeof outcome === "number" || this.#served % wrongOf !== 0) return outcome;
    for (const { bytes, at } of outcome.writes.slice(0, 1)) bytes[at] ^= 1;
    return outcome;
  }
}

export const create = () => createVf(new FaultyEngine({ algorithms: ["cbc(aes)"] }), {});
