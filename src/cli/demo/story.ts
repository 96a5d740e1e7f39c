/** What happens in the demonstration: two hosts, a guest that moves between them, an attacker. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FerryError } from "../../base/errors.ts";
import { makeAuthority, makeHost } from "../pki-files.ts";
import { type Account, account } from "./account.ts";
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

/** What came of everything. */
export interface Sum {
  readonly operations: number;
  /** Requests that never ended, or that no device has run. */
  readonly lost: number;
  readonly wrong: number;
  /** Runs of requests that had been run. */
  readonly twice: number;
  readonly attacks: AttackCount;
  readonly firstError: string;
}

interface Host {
  readonly plan: HostPlan;
  readonly daemons: readonly Daemon[];
  /** Where the devices that move note the requests that they have run. */
  readonly ledgers: readonly string[];
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
        const ledger = (device: string, n: string): string => `${place}/${device}-${n}.ledger`;
        const start = async (device: string) => {
          const noting = ["--set", `ledger=${ledger(device, "{n}")}`];
          return new Daemon(device, place, await freePort(), noting);
        };
        const daemons = await Promise.all(devices.map(start));
        const plan = { name, pki, berths: daemons.map(({ berth }) => berth) };
        return { plan, daemons, ledgers: devices.map((device) => ledger(device, "0")) };
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

  /** Ends everything, and holds what the guest has counted against what the devices have noted. */
  async end(): Promise<Sum> {
    this.attacker.tell({ op: "stop" } satisfies AttackOrder);
    const attacks = (await this.attacker.hear()) as AttackCount;
    const answer = await this.#order({ op: "stop" });
    const counts: readonly GuestCount[] = answer.kind === "stopped" ? answer.counts : [];
    // A device notes a request behind its completion: its ledger is whole when it has ended.
    await this.stop();
    const ledgers = (i: number) => this.hosts.map((host) => host.ledgers[i] as string);
    const accounts = counts.map(({ submitted }, i) => account(submitted, ledgers(i)));
    const total = (of: (count: GuestCount, account: Account) => number): number =>
      counts.reduce((sum, count, i) => sum + of(count, accounts[i] as Account), 0);
    return {
      operations: total(({ operations }) => operations),
      lost: total(({ lost }, { never }) => Math.max(lost, never)),
      wrong: total(({ wrong }) => wrong),
      twice: total((_, { twice }) => twice),
      attacks,
      firstError: counts.find(({ firstError }) => firstError !== "")?.firstError ?? "",
    };
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
