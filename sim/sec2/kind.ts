import { namesOf } from "../acts.ts";
import type { Kind } from "../kind.ts";
import { acts } from "./acts.ts";
import { qm } from "./driver.ts";
import { Sec2Guest } from "./guest.ts";
import { Sec2Model } from "./model.ts";

/** A VF of an accelerator, which the vendor's driver migrates. */
export const sec2: Kind = {
  name: "hisi-sec2",
  ram: qm.memory.ram,
  vectors: qm.traits.vectors,
  acts: namesOf(acts),
  vetoless: (control) => control === "own",
  newModel: (control, life) => new Sec2Model(control, life),
  newGuest: (world, host, mark) => new Sec2Guest(world, host, mark),
};
