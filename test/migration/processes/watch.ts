/** Looks at both hosts all the time: never do both have the device, or act on it. */
import type { MigrationStatus } from "../../../src/migration/port.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import type { MigratingHost } from "../../support/migrating-host.ts";
import type { Scene } from "./scene.ts";

const everyMs = 40;

/** Does the device of this host do what its guest asks for? */
export const acts = ({ state, frozen }: MigrationStatus): boolean =>
  (state === MigState.running || state === MigState.preCopy) && frozen === "none";

/** The last decision of a side in its journal; `none` when there is none. */
export function decisionOf({ records }: MigratingHost, token: string): string {
  const own = records.filter((record) => record.token === token);
  // `done` only says that the source has heard what stands before it.
  return own.findLast(({ decision }) => decision !== "done")?.decision ?? "none";
}

export class Watch {
  readonly violations = new Set<string>();
  looks = 0;
  readonly #scene: Scene;
  readonly #token: string;
  /** The process that had the device first: one that is started later has another device. */
  readonly #first: number;
  #ended = false;

  constructor(scene: Scene, token: string) {
    this.#scene = scene;
    this.#token = token;
    this.#first = scene.source.ferry.pid;
    void this.#run();
  }

  end(): void {
    this.#ended = true;
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      // A host that is dead or stopped does nothing either.
      await this.#look().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  async #look(): Promise<void> {
    const { source, target } = this.#scene;
    const token = this.#token;
    // What is durable before the question still is when it is answered, but for `deciding`.
    const [theirs, before] = [decisionOf(target, token), decisionOf(source, token)];
    const { port } = await source.status();
    const after = decisionOf(source, token);
    this.looks += 1;
    if (!acts(port)) return;
    // Once its guest has gone, too, it is clean and whoever comes next may have it.
    if (theirs === "own" && port.connected && source.ferry.pid === this.#first) {
      this.violations.add("the source's device acts, and the target has it");
    }
    if (before === "deciding" && after === "deciding") {
      this.violations.add("the source's device acts while it is undecided");
    }
  }
}
