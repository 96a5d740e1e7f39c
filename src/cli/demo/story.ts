/** What happens in the demonstration: two hosts, a guest that moves between them, an attacker. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FerryError } from "../../base/errors.ts";
import { askControl } from "../../host/control-line.ts";
import type { DeviceReport } from "../../host/mail.ts";
import { makeAuthority, makeHost } from "../pki-files.ts";
import { Daemon } from "./daemon.ts";
import { freePort } from "./free-port.ts";
import type {
  AttackCount,
  AttackOrder,
  AttackPlan,
  DeviceMove,
  GuestAnswer,
  GuestCount,
  GuestOrder,
  HostPlan,
} from "./messages.ts";
import { Player } from "./player.ts";

const devices = ["hisi-sec2", "hisi-zip"] as const;
const names = ["alice", "bob"] as const;
const controlMs = 10_000;

/** What came of everything. */
export interface Sum {
  readonly operations: number;
  readonly lost: number;
  readonly wrong: number;
  readonly twice: number;
  readonly attacks: AttackCount;
  readonly firstError: string;
}

interface Host {
  readonly plan: HostPlan;
  readonly daemons: readonly Daemon[];
}

/** All processes of the demonstration. */
export class Story {
  readonly hosts: readonly Host[];
  readonly guest = new Player("guest");
  readonly attacker = new Player("attacker");

  private constructor(hosts: readonly Host[]) {
    this.hosts = hosts;
  }

  /** Makes certificates and starts both hosts, in folders of their own. */
  static async begin(folder: string): Promise<Story> {
    const authority = await makeAuthority(join(folder, "pki"));
    const hosts = await Promise.all(
      names.map(async (name): Promise<Host> => {
        const place = join(folder, name);
        mkdirSync(place);
        const pki = await makeHost(join(folder, "pki"), authority, name);
        const start = async (device: string) => new Daemon(device, place, await freePort());
        const daemons = await Promise.all(devices.map(start));
        return { plan: { name, pki, berths: daemons.map(({ berth }) => berth) }, daemons };
      }),
    );
    const story = new Story(hosts);
    await Promise.all(hosts.flatMap(({ daemons }) => daemons.map((each) => each.ready())));
    return story;
  }

  async #order(order: GuestOrder): Promise<GuestAnswer> {
    this.guest.tell(order);
    const answer = (await this.guest.hear()) as GuestAnswer;
    if (answer.kind === "failed") throw new FerryError("demo-failed", answer.why);
    return answer;
  }

  #plan(host: number): HostPlan {
    return (this.hosts[host] as Host).plan;
  }

  /** The guest boots on the first host and begins to work; the neighbour begins to attack. */
  async boot(): Promise<readonly string[]> {
    const hosts = this.hosts.map(({ daemons }) =>
      daemons.map(({ neighbour, berth }): AttackPlan => {
        const port = Number(berth.address.slice(berth.address.lastIndexOf(":") + 1));
        return { ownSocket: neighbour, victimSocket: berth.socket, migrationPort: port };
      }),
    );
    const answer = await this.#order({ op: "boot", host: this.#plan(0) });
    this.attacker.tell({ op: "attack", hosts } satisfies AttackOrder);
    return answer.kind === "booted" ? answer.devices : [];
  }

  /** Moves the guest's devices from one host to the other. */
  async move(from: number, to: number): Promise<readonly DeviceMove[]> {
    const order = { op: "move", from: this.#plan(from), to: this.#plan(to) } as const;
    const answer = await this.#order(order);
    this.attacker.tell({ op: "follow", host: to } satisfies AttackOrder);
    return answer.kind === "moved" ? answer.moves : [];
  }

  /** Stops the guest and the attacker and counts what they and the devices have counted. */
  async end(): Promise<Sum> {
    this.attacker.tell({ op: "stop" } satisfies AttackOrder);
    const attacks = (await this.attacker.hear()) as AttackCount;
    const answer = await this.#order({ op: "stop" });
    const counts: readonly GuestCount[] = answer.kind === "stopped" ? answer.counts : [];
    const total = (of: (count: GuestCount) => number): number =>
      counts.reduce((sum, count) => sum + of(count), 0);
    const operations = total((count) => count.operations);
    return {
      operations,
      lost: total((count) => count.lost),
      wrong: total((count) => count.wrong),
      twice: (await this.#completed()) - operations,
      attacks,
      firstError: counts.find(({ firstError }) => firstError !== "")?.firstError ?? "",
    };
  }

  /** Requests that the devices have completed, on both hosts, by their own count. */
  async #completed(): Promise<number> {
    const berths = this.hosts.flatMap(({ plan }) => plan.berths);
    const counts = await Promise.all(
      berths.map(async ({ control, socket }) => {
        const answer = await askControl(
          control,
          { method: "probe", device: socket },
          { timeoutMs: controlMs },
        );
        const { devices: reports } = answer as { readonly devices: readonly DeviceReport[] };
        return reports[0]?.counters["requests completed"] ?? 0;
      }),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Ends every process: true when the daemons ended in order. */
  async stop(): Promise<boolean> {
    this.guest.stop();
    this.attacker.stop();
    const daemons = this.hosts.flatMap((host) => host.daemons);
    const ended = await Promise.all(daemons.map((each) => each.stop()));
    return ended.every(Boolean);
  }
}
