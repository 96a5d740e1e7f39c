/**
 * The accelerators against node's own libraries: in this process, and over a vfio-user socket.
 *
 *     tsx bench/accelerators/run.ts [--quick] [--only hisi-sec2,hisi-zip,hisi-hpre] [--match TEXT]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { create as createHpre } from "../../src/devices/hisi-hpre/index.ts";
import { create as createSec2 } from "../../src/devices/hisi-sec2/index.ts";
import { create as createZip } from "../../src/devices/hisi-zip/index.ts";
import { connectWhenFree } from "../../test/client/connect-when-free.ts";
import { main, OperatorError } from "../operator-error.ts";
import { allowedCpus, socketFolder, startServer, stopServers } from "../servers.ts";
import {
  type Arena,
  type Clock,
  type Contest,
  deviceRate,
  directRate,
  processorClock,
  verify,
} from "./contest.ts";
import { hpreArena } from "./hpre.ts";
import { pin } from "./pin.ts";
import { type Round, renderHead, renderLine, summarize } from "./rounds.ts";
import { sec2Arena } from "./sec2.ts";
import { serverClock } from "./server-thread.ts";
import { zipArena } from "./zip.ts";

interface Lengths {
  /** Of a turn that is not counted: compilers and the heap take a while. */
  readonly warmUpMs: number;
  readonly rounds: number;
  readonly durationMs: number;
}

/** Turns are short: what disturbs the machine for a while disturbs both sides of a share. */
const durationMs = 50;
const full: Lengths = { warmUpMs: 1000, rounds: 21, durationMs };
const quick: Lengths = { warmUpMs: 1000, rounds: 5, durationMs };

interface Accelerator {
  create(): VfioDevice;
  arena(device: VfioDevice): Arena;
}

const accelerators: Readonly<Record<string, Accelerator>> = {
  "hisi-sec2": { create: createSec2, arena: sec2Arena },
  "hisi-zip": { create: createZip, arena: zipArena },
  "hisi-hpre": { create: createHpre, arena: hpreArena },
};

/** One round: node, the device here, and the device behind its socket, in turns of either order. */
function round(
  [local, remote]: readonly [Arena, Arena],
  [here, there]: readonly [Contest, Contest],
  clock: Clock,
  durationMs: number,
  forward: boolean,
): Round {
  const found = { direct: 0, local: 0, remote: 0 };
  const turns = [
    () => (found.direct = directRate(here, durationMs, processorClock)),
    () => (found.local = deviceRate(local, here, durationMs, processorClock)),
    () => (found.remote = deviceRate(remote, there, durationMs, clock)),
  ];
  for (const turn of forward ? turns : turns.toReversed()) turn();
  return found;
}

/** The lines whose name and size contain `match`; false when a promise is missed. */
function measure(
  arenas: readonly [Arena, Arena],
  clock: Clock,
  { warmUpMs, rounds, durationMs }: Lengths,
  match: string,
): boolean {
  const [local, remote] = arenas;
  let kept = true;
  for (const [i, here] of local.contests.entries()) {
    if (!`${here.name} ${here.bytes}`.includes(match)) continue;
    const there = remote.contests[i] as Contest;
    verify(local, here);
    verify(remote, there);
    round(arenas, [here, there], clock, warmUpMs, true);
    const found = Array.from({ length: rounds }, (_, n) =>
      round(arenas, [here, there], clock, durationMs, n % 2 === 0),
    );
    const summary = summarize(here, found);
    kept &&= summary.kept;
    process.stdout.write(`${renderLine(here, summary)}\n`);
  }
  return kept;
}

await main(async () => {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      match: { type: "string", default: "" },
    },
  });
  const names = values.only?.split(",") ?? Object.keys(accelerators);
  const cpus = allowedCpus();
  const [own = 0] = cpus;
  pin(own);
  let kept = true;
  try {
    for (const name of names) {
      const accelerator = accelerators[name];
      if (accelerator === undefined) throw new OperatorError(`There is no accelerator ${name}.`);
      const command = `node dist/cli/main.js serve ${name} --socket-path {socket}`;
      const path = join(socketFolder(), name);
      const server = await startServer(command, path, { cpu: cpus.at(-1) ?? own });
      const device = new RemoteDevice(connectWhenFree(server.socketPath), name);
      const arenas = [accelerator.arena(accelerator.create()), accelerator.arena(device)] as const;
      process.stdout.write(`${renderHead(name, arenas[0].depth)}\n`);
      const clock = serverClock(server.pid);
      kept = measure(arenas, clock, values.quick ? quick : full, values.match) && kept;
      for (const { qm } of arenas) qm.close();
      device.close();
      await stopServers();
    }
    return kept ? 0 : 1;
  } finally {
    await stopServers();
  }
});
