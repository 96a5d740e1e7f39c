import { FerryError } from "../../base/errors.ts";
import { Carve } from "../../device/carve.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { guestBarBytes, qmBar } from "../../spec/hisi-qm.ts";
import { ComputePool } from "./compute.ts";
import type { Engine } from "./engine.ts";
import { defaultConfiguration, type VectorLayout } from "./qm/configuration.ts";
import { Pf } from "./qm/pf.ts";

/** What `create` of every accelerator takes, for the command line. */
export const vfOptions = {
  queues: { default: "256", doc: "how many queues the function has, 1 to 1024" },
  depth: { default: "1024", doc: "entries of a queue that drivers are told to use, 2 to 4096" },
  vectors: { default: "split", doc: "single: one interrupt, for x86 guests that cannot have more" },
} as const;

type Given = Readonly<Record<string, string>>;

function wholeNumber(given: Given, name: "queues" | "depth"): number {
  const text = given[name] ?? vfOptions[name].default;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new FerryError("bad-option", `${name}=${text} is no whole number.`);
}

/** A VF with this engine, as a VMM gets it: without the control half of its BAR2. */
export function createVf(engine: Engine, given: Given): VfioDevice {
  const depth = wholeNumber(given, "depth");
  const configuration = {
    ...defaultConfiguration,
    queues: wholeNumber(given, "queues"),
    sqDepth: depth,
    cqDepth: depth,
    vectors: (given["vectors"] ?? vfOptions.vectors.default) as VectorLayout,
  };
  const vf = new Pf().createVf({ engine, compute: new ComputePool(), configuration });
  return new Carve(vf, { bar: qmBar, size: guestBarBytes, bits: vf.carvedBits });
}
