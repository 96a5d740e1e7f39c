/** What a simulation knows of the kind of device that moves in it, and of its guest. */
import type { GuestRam } from "../src/client/guest-ram.ts";
import type { MigrationDriver } from "../src/migration/driver.ts";
import type { Planes } from "../src/migration/planes.ts";
import type { Random } from "../test/fuzz/random.ts";
import type { Guest } from "./guest.ts";
import type { Host } from "./host.ts";
import type { World } from "./world.ts";

/** How who migrates a device reaches it: by a control half of its own, or as on silicon. */
export type Control = "own" | "silicon";
export const controls: readonly Control[] = ["own", "silicon"];

/** Time and chance, as a device has them in the world that it is in. */
export interface Life {
  readonly now: () => number;
  readonly random: Random;
  /** Does something later, and gives the device a turn. */
  readonly after: (ms: number, act: () => void) => void;
}

/** A device with what migrates it. It serves one process after the other. */
export interface Model {
  readonly planes: Planes;
  newDriver(): MigrationDriver;
  /** Is what a guest with this mark leaves in its device there? */
  holds(mark: number): boolean;
  /** What the device depends on fails, until `calm`. */
  upset(random: Random): void;
  calm(): void;
}

export interface Kind {
  readonly name: string;
  /** The guest's memory: one for all runs, because memory that was shown is never given back. */
  readonly ram: GuestRam;
  /** MSI vectors that a guest has wired. */
  readonly vectors: number;
  /** What its guests do, by name. */
  readonly acts: readonly string[];
  /** Can a guest do nothing to keep its device where it is, short of resetting it? */
  vetoless(control: Control): boolean;
  newModel(control: Control, life: Life): Model;
  newGuest(world: World, host: Host, mark: number): Guest;
}
