import { FerryError } from "../../base/errors.ts";
import { Carve } from "../../device/carve.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { guestBarBytes, qmBar } from "../../spec/hisi-qm.ts";
import { ComputePool } from "./compute.ts";
import type { Engine } from "./engine.ts";
import { Ledger } from "./ledger.ts";
import { defaultConfiguration, type VectorLayout } from "./qm/configuration.ts";
import { Pf } from "./qm/pf.ts";
import type { VfBroker } from "./qm/vf-broker.ts";

/** What `create` of every accelerator takes, for the command line. */
export const vfOptions = {
  queues: { default: "256", doc: "how many queues the function has, 1 to 1024" },
  depth: { default: "1024", doc: "entries of a queue that drivers are told to use, 2 to 4096" },
  vectors: { default: "split", doc: "single: one interrupt, for x86 guests that cannot have more" },
  control: {
    default: "own",
    doc: "own: who migrates the function has a mailbox of its own; silicon: it shares the guest's",
  },
  ledger: { default: "", doc: "a file that gets the tag of each completed request, 8 bytes each" },
} as const;

type Given = Readonly<Record<string, string>>;

function wholeNumber(given: Given, name: "queues" | "depth"): number {
  const text = given[name] ?? vfOptions[name].default;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new FerryError("bad-option", `${name}=${text} is no whole number.`);
}

function hasControlMailbox(given: Given): boolean {
  const text = given["control"] ?? vfOptions.control.default;
  if (text === "own" || text === "silicon") return text === "own";
  throw new FerryError("bad-option", `control=${text} is neither own nor silicon.`);
}

/** A VF, and what lies beside the guest's part of it. */
export interface VfPlanes {
  /** As a VMM gets it: without the control half of its BAR2. */
  readonly guest: VfioDevice;
  readonly control: VfioDevice;
  readonly memory: GuestMemory;
  readonly broker: VfBroker;
}

/** A VF with this engine. */
export function createPlanes(engine: Engine, given: Given): VfPlanes {
  const depth = wholeNumber(given, "depth");
  const configuration = {
    ...defaultConfiguration,
    queues: wholeNumber(given, "queues"),
    sqDepth: depth,
    cqDepth: depth,
    vectors: (given["vectors"] ?? vfOptions.vectors.default) as VectorLayout,
    controlMailbox: hasControlMailbox(given),
  };
  const ledger = given["ledger"] ?? vfOptions.ledger.default;
  const kept = ledger === "" ? engine : new Ledger(engine, ledger);
  const pf = new Pf();
  const control = pf.createVf({ engine: kept, compute: new ComputePool(), configuration });
  const bits = control.carvedBits;
  const guest = new Carve(control, { bar: qmBar, size: guestBarBytes, bits });
  return { guest, control, memory: control.memory, broker: pf.broker(pf.vfs.length) };
}

/** The same, for who does not migrate it. */
export const createVf = (engine: Engine, given: Given): VfioDevice =>
  createPlanes(engine, given).guest;
