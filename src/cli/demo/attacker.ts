/** The hostile neighbour's process: attacks until it is told to stop, and says what came of it. */
import { Connection } from "../../client/connection.ts";
import { RemoteDevice } from "../../client/remote-device.ts";
import { attacks, type Scene } from "./attacks.ts";
import type { AttackCount, AttackOrder, AttackPlan } from "./messages.ts";

/** Between two attacks: both of the machine's processors are needed for the work itself. */
const restMs = 2;
const answerMs = 10_000;

const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, restMs));

const sceneOf = ({ ownSocket, ...plan }: AttackPlan): Scene => ({
  ...plan,
  own: new RemoteDevice(Connection.connect(ownSocket, { timeoutMs: answerMs }), ownSocket),
});

/** Attacks the devices of the host where the guest is, one after the other. */
class Attacker {
  readonly #hosts: ReadonlyArray<readonly Scene[]>;
  host = 0;
  stopped = false;

  constructor(hosts: ReadonlyArray<readonly AttackPlan[]>) {
    this.#hosts = hosts.map((plans) => plans.map(sceneOf));
  }

  async run(): Promise<AttackCount> {
    const kinds: Record<string, number> = {};
    const succeeded: string[] = [];
    let [tried, refused] = [0, 0];
    for (let turn = 0; !this.stopped; turn++) {
      const attack = attacks[turn % attacks.length] as (typeof attacks)[number];
      const scenes = this.#hosts[this.host] as readonly Scene[];
      const scene = scenes[Math.floor(turn / attacks.length) % scenes.length] as Scene;
      const isRefused = await attack.run(scene);
      await rest();
      if (isRefused === null) continue;
      tried += 1;
      kinds[attack.name] = (kinds[attack.name] ?? 0) + 1;
      if (isRefused) refused += 1;
      else succeeded.push(attack.name);
    }
    for (const { own } of this.#hosts.flat()) own.close();
    return { tried, refused, succeeded, kinds };
  }
}

let attacker: Attacker | null = null;

function end(thrown: unknown): void {
  process.stderr.write(`the neighbour: ${String(thrown)}\n`);
  process.exit(1);
}

process.on("message", (order: AttackOrder) => {
  if (order.op === "attack") {
    attacker = new Attacker(order.hosts);
    attacker.run().then((count) => process.send?.(count, () => process.exit()), end);
  } else if (attacker !== null && order.op === "follow") attacker.host = order.host;
  else if (attacker !== null) attacker.stopped = true;
});
process.on("disconnect", () => process.exit());
