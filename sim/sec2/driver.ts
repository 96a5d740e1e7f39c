/** The guest's driver: one for all runs, because memory that was shown is never given back. */
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { Random } from "../../test/fuzz/random.ts";
import type { Life } from "../kind.ts";
import { Sec2Model } from "./model.ts";
import { Vcpu } from "./vcpu.ts";

/** Data of one request, in bytes: it is computed in the device's own thread. */
export const dataBytesMax = 512;

/** Nothing happens to a device that only tells what it is. */
const idle: Life = { now: () => 0, random: new Random(0), after: () => {} };

export const vcpu = new Vcpu(new Sec2Model("own", idle).planes.guest);
/** It finds out what there is with a device of its own. */
export const { qm } = new Sec2Driver(vcpu, {
  memoryBytes: 128 * 1024,
  queues: 2,
  depth: 5,
  dataBytesMax,
});
