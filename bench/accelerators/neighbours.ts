/**
 * What hostile guests cost their neighbour: another VF in the same process, with a worker of its
 * own. The neighbour's share is its rate beside an attack over its rate beside a VF that does what
 * it does itself.
 *
 *     tsx bench/accelerators/neighbours.ts [--seconds N]
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { main } from "../operator-error.ts";
import { socketFolder, startServer, stopServers } from "../servers.ts";
import { median } from "../statistics.ts";

const shareLeast = 0.8;
const rounds = 7;
/** An attack begins so long before the neighbour is measured, and ends so long after. */
const marginMs = 200;

/** Roles are those of `guest-thread.mjs`. */
interface Attacks {
  readonly device: string;
  readonly neighbour: string;
  readonly attacks: readonly string[];
}

const all: readonly Attacks[] = [
  {
    device: "hisi-sec2",
    neighbour: "cbc 4 KiB",
    attacks: ["doorbell storm", "mailbox storm", "cbc 8 MiB"],
  },
  { device: "hisi-zip", neighbour: "deflate 4 KiB", attacks: ["zip bombs"] },
  { device: "hisi-hpre", neighbour: "rsa-2048 public", attacks: ["rsa-4096 private storm"] },
];

/** A guest of the server, in a thread of this process. */
class Guest {
  readonly #worker: Worker;
  #next: Promise<unknown>;

  constructor(socketPath: string, role: string) {
    const entry = new URL("./guest-thread.mjs", import.meta.url);
    this.#worker = new Worker(entry, { workerData: { socketPath, role } });
    this.#next = this.#answer();
  }

  /** The next message; an error of the thread is thrown here. */
  async #answer(): Promise<unknown> {
    const [answer] = await once(this.#worker, "message");
    return answer;
  }

  async ready(): Promise<void> {
    await this.#next;
  }

  /** Does what it is there for: how often a second. */
  async work(durationMs: number): Promise<number> {
    this.#next = this.#answer();
    this.#worker.postMessage(durationMs);
    return Number(await this.#next);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** The neighbour's rate while `other` is at work. */
async function rateBeside(neighbour: Guest, other: Guest, durationMs: number): Promise<number> {
  const begun = other.work(durationMs + 2 * marginMs);
  await sleep(marginMs);
  const rate = await neighbour.work(durationMs);
  await begun;
  return rate;
}

/** Lines of one kind of device; false when a promise is missed. */
async function measure({ device, neighbour, attacks }: Attacks, ms: number): Promise<boolean> {
  const path = join(socketFolder(), `${device}-{n}`);
  const roles = [neighbour, neighbour, ...attacks];
  const paths = roles.map((_, n) => path.replace("{n}", `${n}`));
  const serve = `node dist/cli/main.js serve ${device} --count ${roles.length}`;
  await startServer(`${serve} --socket-path ${path}`, path, {
    isReady: () => paths.every((each) => existsSync(each)),
  });
  const guests = roles.map((role, n) => new Guest(paths[n] as string, role));
  for (const guest of guests) await guest.ready();
  const [first, peer, ...attackers] = guests as [Guest, Guest, ...Guest[]];
  await rateBeside(first, peer, ms);
  let kept = true;
  for (const [i, attacker] of attackers.entries()) {
    const shares: number[] = [];
    const rates: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const usual = await rateBeside(first, peer, ms);
      const attacked = await rateBeside(first, attacker, ms);
      shares.push(attacked / usual);
      rates.push(usual);
    }
    const share = median(shares);
    kept &&= share >= shareLeast;
    const verdict = share >= shareLeast ? "pass" : "MISSED";
    const usual = `${median(rates).toFixed(0)}/s`.padStart(12);
    process.stdout.write(
      `${neighbour.padEnd(18)}${usual}   beside ${(attacks[i] ?? "").padEnd(24)}` +
        `${share.toFixed(2)} x   >= ${shareLeast.toFixed(2)} x ${verdict}\n`,
    );
  }
  for (const guest of guests) await guest.end();
  await stopServers();
  return kept;
}

await main(async () => {
  const { values } = parseArgs({ options: { seconds: { type: "string", default: "0.5" } } });
  let kept = true;
  try {
    for (const attacks of all) {
      kept = (await measure(attacks, 1000 * Number(values.seconds))) && kept;
    }
    return kept ? 0 : 1;
  } finally {
    await stopServers();
  }
});
