/** A served process and its successor, as `ferry serve` plays both of them. */
import { resolve } from "node:path";
import { FerryError, messageOf } from "../base/errors.ts";
import type { Berth, Host } from "../host/host.ts";
import { askManifest, handoverFormat, type Manifest, type Succession } from "../host/manifest.ts";
import type { Migrations } from "../host/migrations.ts";
import { isManaged, tellManager } from "../host/service-manager.ts";
import { handOver, takeOver } from "../host/succession.ts";
import { ownVersion } from "../host/version.ts";
import type { Log } from "./log.ts";

/** What a successor says, once, to the `ferry upgrade` that has started it. */
export type Word =
  | {
      readonly kind: "serves";
      readonly version: string;
      readonly pid: number;
      readonly succession: Succession;
    }
  | { readonly kind: "failed"; readonly why: string };

/** Says it, if it was started by one, and breaks off. */
function say(word: Word): void {
  process.send?.(word, undefined, undefined, () => process.disconnect?.());
}

/** What this process says of itself. */
export function ownManifest(
  berths: readonly Berth[],
  { journal, json = false }: { readonly journal?: string | undefined; readonly json?: boolean },
): Manifest {
  return {
    format: handoverFormat,
    version: ownVersion,
    pid: process.pid,
    devices: berths.map(({ device }) => device.spec),
    journal: journal === undefined ? "" : resolve(journal),
    json,
    managed: isManaged(),
  };
}

/** The old side; the service manager follows the successor from here on. */
export async function leave(host: Host, migrations: Migrations, request: unknown): Promise<number> {
  const { obstacle } = migrations;
  if (obstacle !== null) throw new FerryError("busy", obstacle);
  const successor = await handOver(host, request);
  tellManager(`MAINPID=${successor}`);
  return successor;
}

/** The new side. */
export class Succeeding {
  readonly #host: Host;
  readonly #control: string;
  #manifest: Manifest | null = null;
  #succession: Succession | null = null;

  constructor(host: Host, control: string) {
    this.#host = host;
    this.#control = control;
  }

  /** How it came to its devices; null until it has. */
  get succession(): Succession | null {
    return this.#succession;
  }

  /** Asks the old process where it keeps its journals. */
  async journal(): Promise<string | undefined> {
    this.#manifest = await askManifest(this.#control);
    if (this.#manifest.managed && !isManaged()) {
      throw new FerryError(
        "managed",
        "a service manager follows the process to succeed and would not follow this one: " +
          "let it do it, systemctl reload UNIT.",
      );
    }
    return this.#manifest.journal === "" ? undefined : this.#manifest.journal;
  }

  /** Takes the devices over. What fails afterwards is told, and they are served. */
  async takeOver(migrations: Migrations, log: Log): Promise<void> {
    const manifest = this.#manifest ?? (await askManifest(this.#control));
    this.#succession = await takeOver(this.#host, this.#control, manifest, (berth, index) =>
      migrations.check(berth, index),
    );
    for (const berth of this.#host.berths) {
      await migrations.add(berth).catch((thrown: unknown) => {
        log.error(`${berth.device.spec.name} cannot be migrated: ${messageOf(thrown)}`);
      });
    }
  }

  done(): void {
    if (this.#succession === null) return;
    const { pid } = process;
    say({ kind: "serves", version: ownVersion, pid, succession: this.#succession });
  }

  fail(thrown: unknown): void {
    say({ kind: "failed", why: messageOf(thrown) });
  }
}
