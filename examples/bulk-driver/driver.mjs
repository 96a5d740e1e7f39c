// The driver: what each phase of a migration is, for the bulk device.
import { compare, errno, identityOf, MigrationFlags, shapeOf } from "vfio-ferry";
import { BulkPause, bulkPageBytes } from "vfio-ferry/devices/bulk";
import { names, version } from "./sections.mjs";
import { Source } from "./source.mjs";
import { Target } from "./target.mjs";

const { run, beginNothing, standStill } = BulkPause;
const { p2p, preCopy } = MigrationFlags.mask;
/** A board that is mapped is looked through as a whole when it stops and when it goes on. */
const pauseMs = 5000;
const functionMs = 500;

/** @implements {import("vfio-ferry").MigrationDriver} */
export class BulkDriver {
  compatibility;
  sectionNames = names;
  flags = p2p | preCopy;
  native = false;
  #control;
  #source;
  #target;
  /** Were changes noted before the device stood still? */
  #precopies = false;

  freeze = this.#pauses(beginNothing, run);
  quiesce = this.#pauses(standStill, beginNothing);
  thaw = this.#pauses(beginNothing, standStill);
  save = { budgetMs: functionMs, run: () => this.#save(), undo: () => this.#unsave() };
  load = {
    budgetMs: functionMs,
    run: () => this.#target.load(),
    undo: () => this.#target.unload(),
  };

  /**
   * @param {import("vfio-ferry").VfioDevice} guest
   * @param {import("./control.mjs").Control} control
   */
  constructor(guest, control) {
    const memoryBytes = control.get("MEMORY_BYTES");
    this.#control = control;
    this.#source = new Source(control, memoryBytes);
    this.#target = new Target(control, memoryBytes);
    this.compatibility = {
      ...identityOf(guest),
      driver: "bulk",
      version,
      oldestVersion: version,
      facts: { ...shapeOf(guest), "memory bytes": memoryBytes, "page bytes": bulkPageBytes },
    };
  }

  judge(theirs) {
    return compare(this.compatibility, theirs);
  }

  #pauses(there, back) {
    return {
      budgetMs: pauseMs,
      run: () => this.#control.pause(there),
      undo: () => this.#control.pause(back),
    };
  }

  track(on) {
    this.#precopies = on;
    if (on) this.#source.begin();
    else this.#source.end();
    return this.#source.tracking === on ? 0 : -errno.EIO;
  }

  *#save() {
    if (!this.#precopies) this.#source.begin();
    return yield* this.#source.save();
  }

  // biome-ignore lint/correctness/useYield: there is nothing to wait for
  *#unsave() {
    if (this.#precopies) this.#source.unsave();
    else this.#source.end();
    return 0;
  }

  get pending() {
    return this.#source.pending;
  }

  get stopCopyBytes() {
    return this.#source.stopCopyBytes;
  }

  next() {
    return this.#source.next();
  }

  accept(section) {
    return this.#target.accept(section);
  }

  check() {
    return this.#target.check();
  }

  discard() {
    this.#precopies = false;
    this.#source.end();
    this.#target.discard();
  }

  /** The control function was reset with the guest's: it notes nothing, and the board is clear. */
  wasReset() {
    this.#precopies = false;
    this.#source.end();
    this.#target.forget();
  }
}
