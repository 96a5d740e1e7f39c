/** A driver that does what a test tells it, and says what it was asked. */
import { errno } from "../../src/base/errno.ts";
import type {
  Compatibility,
  MigrationDriver,
  Phase,
  Phases,
  Section,
} from "../../src/migration/driver.ts";
import { compare } from "../../src/migration/identity.ts";

export const scriptKind = 0x100;

/** What a phase does: so many turns, then this result; for ever without a result. */
interface Script {
  readonly turns?: number;
  readonly result?: number;
}

export class ScriptedDriver implements MigrationDriver {
  readonly log: string[] = [];
  readonly script: Record<string, Script> = {};
  readonly flags: number;
  readonly native = false;
  readonly sectionNames = { [scriptKind]: "script" };
  readonly compatibility: Compatibility;
  readonly freeze = this.#phase("freeze");
  readonly quiesce = this.#phase("quiesce");
  readonly save = this.#phase("save");
  readonly load = this.#phase("load");
  readonly thaw = this.#phase("thaw");
  pending = { initialBytes: 0, dirtyBytes: 0 };
  stopCopyBytes = 1;
  /** What `next` gives out, and what `accept` has taken. */
  out: Uint8Array[] = [];
  taken: Uint8Array[] = [];

  constructor(flags = 0) {
    this.flags = flags;
    this.compatibility = {
      driver: "scripted",
      version: 1,
      oldestVersion: 1,
      vendor: 0xfe22,
      device: 1,
      revision: 1,
      facts: { colour: "red" },
    };
  }

  #phase(name: keyof Phases): Phase {
    return { budgetMs: 10, run: () => this.#play(name), undo: () => this.#play(`undo ${name}`) };
  }

  *#play(name: string): Generator<void, number> {
    const { turns = 0, result = 0 } = this.script[name] ?? {};
    this.log.push(name);
    try {
      for (let turn = 0; turn < turns; turn++) yield;
      return result;
    } finally {
      if (turns === Number.POSITIVE_INFINITY) this.log.push(`cut ${name}`);
    }
  }

  judge(theirs: Compatibility): string | null {
    return compare(this.compatibility, theirs);
  }

  track(on: boolean): number {
    this.log.push(on ? "track" : "untrack");
    return this.script["track"]?.result ?? 0;
  }

  next(): Section | null {
    const bytes = this.out.shift();
    if (bytes === undefined) return null;
    return { kind: scriptKind, version: 1, optional: false, bytes, address: 0 };
  }

  accept({ kind, bytes }: Section): string | null {
    if (kind !== scriptKind) return "it is unknown";
    this.taken.push(bytes.slice());
    return null;
  }

  check(): string | null {
    return this.taken.length > 0 ? null : "nothing came";
  }

  discard(): void {
    this.out = [];
    this.taken = [];
  }

  wasReset(): void {
    this.log.push("was reset");
  }
}

/** What a phase may be told to do. */
export const forEver: Script = { turns: Number.POSITIVE_INFINITY };
export const fails: Script = { result: -errno.EIO };
