/**
 * What a migration costs: the device's own part, a guest's blackout, bulk memory, many VFs at once.
 *
 *     tsx bench/migration/run.ts [--moves 100] [--mib 512] [--only state,blackout,bulk,many]
 */
import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { AttackOrder } from "../../src/cli/demo/messages.ts";
import { pin } from "../accelerators/pin.ts";
import { main } from "../operator-error.ts";
import { quantile } from "../statistics.ts";
import { bareBlackouts } from "./bare-blackout.ts";
import { type Blackout, Traveller } from "./blackout.ts";
import { moveBulk, type Turn } from "./bulk.ts";
import { echoOverTls } from "./echo.ts";
import { firstSavesAndLoads } from "./first.ts";
import { Hosts } from "./hosts.ts";
import { evacuate } from "./many.ts";
import { saveAndLoad } from "./state.ts";
import type { Moved } from "./yardstick.ts";

const attackerUrl = new URL("../../dist/cli/demo/attacker.js", import.meta.url);

/** Moves of the blackout, and a bulk device's memory. */
interface Options {
  readonly moves: number;
  readonly mib: number;
}

/** A blackout takes at most so many times what its steps take with nothing in them. */
const bareMax = 6;

let missed = 0;
/** Saves and loads: compilers take a while. */
const warmUps = 300;
const times = 1000;
/** Processes that save and load once. */
const firsts = 9;

/** A line of the outcome: what, its figure, and the promise if there is one. */
function line(what: string, figure: string, promise = "", kept = true): void {
  const verdict = promise === "" ? "" : `   ${promise}  ${kept ? "pass" : "MISSED"}`;
  console.log(`${what.padEnd(44)} ${figure.padStart(22)}${verdict}`);
  if (!kept) missed += 1;
}

const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
const ms = (value: number): string => `${value.toFixed(2)} ms`;

async function state(): Promise<void> {
  saveAndLoad(warmUps);
  const { saveMs, loadMs } = saveAndLoad(times);
  const both = quantile(saveMs, 0.5) + quantile(loadMs, 0.5);
  line("save and load of a VF with 16 queues, median", ms(both), "<= 1 ms", both <= 1);
  line("  the first of a process", ms(quantile(await firstSavesAndLoads(firsts), 0.5)));
}

/** Sets the neighbour on. */
function attack({ daemons }: Hosts): ChildProcess {
  const attacker = fork(attackerUrl, {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [],
  });
  pin(1, attacker.pid);
  const hosts = daemons.map(({ neighbour, berth }) => [
    {
      ownSocket: neighbour,
      victimSocket: berth.socket,
      migrationPort: Number(berth.address.slice(berth.address.lastIndexOf(":") + 1)),
    },
  ]);
  attacker.send({ op: "attack", hosts } satisfies AttackOrder);
  return attacker;
}

/** A line for each of these figures: its median over all moves. */
function medians(of: ReadonlyArray<Readonly<Record<string, number>>>, title: string): void {
  for (const name of Object.keys(of[0] ?? {})) {
    const each = of.map((figures) => figures[name] ?? Number.NaN);
    line(`  ${title} ${name}, median`, ms(quantile(each, 0.5)));
  }
}

async function blackout({ moves: count }: Options): Promise<void> {
  await using hosts = await Hosts.start("hisi-sec2", ["--set", "queues=16"]);
  const attacker = attack(hosts);
  try {
    const [alice, bob] = hosts.plans;
    const traveller = new Traveller(alice);
    const moves: Blackout[] = [];
    for (let i = 0; i < count; i++) {
      moves.push(await (i % 2 === 0 ? traveller.move(alice, bob) : traveller.move(bob, alice)));
      attacker.send({ op: "follow", host: (i + 1) % 2 } satisfies AttackOrder);
    }
    const bad = traveller.finish();
    const times = moves.map(({ marks }) => marks.answered);
    const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
    line(`blackout of ${count} moves, median`, ms(p50), "<= 5 ms", p50 <= 5);
    line("blackout, 99th percentile", ms(p99), "<= 20 ms", p99 <= 20);
    medians(
      moves.map(({ marks }) => ({ ...marks })),
      "guest",
    );
    medians(
      moves.map(({ phases }) => phases),
      "phase",
    );
    line("requests lost or wrong", String(bad), "none", bad === 0);
    const bare = quantile(await bareBlackouts(hosts, count), 0.5);
    line("the same steps with nothing done in them", ms(bare));
    const share = p50 / bare;
    line("  a blackout is so many of them", share.toFixed(1), `<= ${bareMax}`, share <= bareMax);
    const echoes = await echoOverTls(hosts, 200);
    line("an echo over an idle TLS link, median", ms(quantile(echoes, 0.5)));
  } finally {
    attacker.kill("SIGKILL");
  }
}

async function bulk({ mib }: Options): Promise<void> {
  for (const [link, promise, sharePromise] of [
    ["unix", 3, 0.2],
    ["tls", 1, 0.45],
  ] as const) {
    const turns = await moveBulk(link, mib);
    const median = (of: (turn: Turn) => number): number => quantile(turns.map(of), 0.5);
    const rate = ({ bytes, elapsedMs }: Moved): number => bytes / elapsedMs / 1e6;
    const perCore = ({ bytes, busiestMs }: Moved): number => bytes / busiestMs / 1e6;
    const shown = median(({ device }) => rate(device));
    const figure = `${shown.toFixed(2)} GB/s`;
    line(`bulk memory over ${link}`, figure, `>= ${promise} GB/s`, shown >= promise);
    line("  bare node in the same turn", `${median(({ bare }) => rate(bare)).toFixed(2)} GB/s`);
    const share = median(({ bare, device }) => rate(device) / rate(bare));
    const wanted = `>= ${percent(sharePromise)}`;
    line("  of bare node", percent(share), wanted, share >= sharePromise);
    const each = median(({ device }) => perCore(device)).toFixed(2);
    const bareEach = median(({ bare }) => perCore(bare)).toFixed(2);
    line("  for a second of its busier side, bare", `${each} GB, ${bareEach} GB`);
  }
}

async function many(): Promise<void> {
  const { elapsedMs, downtimesMs } = await evacuate(32);
  line("32 VFs evacuated in parallel", ms(elapsedMs));
  for (const share of [0.5, 0.9, 1]) {
    line(`  downtime of one, quantile ${share}`, ms(quantile(downtimesMs, share)));
  }
}

const benches = { state, blackout, bulk, many } as const;

/** Each in its own process: what one leaves behind is collected while the next one measures. */
function alone(wanted: readonly string[], { moves, mib }: Record<"moves" | "mib", string>): number {
  const own = [...process.execArgv, fileURLToPath(import.meta.url)];
  const statuses = wanted.map((name) => {
    const args = [...own, "--only", name, "--moves", moves, "--mib", mib];
    return spawnSync(process.execPath, args, { stdio: "inherit" }).status;
  });
  return Math.max(...statuses.map((status) => status ?? 1));
}

await main(async () => {
  const { values } = parseArgs({
    options: {
      moves: { type: "string", default: "100" },
      mib: { type: "string", default: "512" },
      only: { type: "string" },
    },
  });
  const wanted = values.only?.split(",") ?? Object.keys(benches);
  if (wanted.length > 1) return alone(wanted, values);
  const [name] = wanted as [keyof typeof benches];
  await benches[name]?.({ moves: Number(values.moves), mib: Number(values.mib) });
  return missed === 0 ? 0 : 1;
});
