/** How fast the memory of a bulk device goes from one daemon to another, while it stands still. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { HostPlan } from "../../src/cli/demo/messages.ts";
import { Connection } from "../../src/client/connection.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { askControl } from "../../src/host/control-line.ts";
import type { Report } from "../../src/migration/hosts/report.ts";
import { fillBoard } from "./board.ts";
import { Hosts } from "./hosts.ts";
import { type LinkKind, type Moved, moveBare } from "./yardstick.ts";

const driver = fileURLToPath(new URL("../../examples/bulk-driver/index.mjs", import.meta.url));
const timeoutMs = 30_000;
const mib = 1 << 20;
/** There and back again. */
const turns = 4;

/** A turn: node alone, and the device right after it. */
export interface Turn {
  readonly bare: Moved;
  readonly device: Moved;
}

/** Processor time that a process has used, in milliseconds. */
function usedMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const ticksPerMs = 100 / 1000;
  return (Number(fields[11]) + Number(fields[12])) / ticksPerMs;
}

async function moveDevice(hosts: Hosts, kind: LinkKind, from: HostPlan, to: HostPlan) {
  const [[here], [there]] = [from.berths, to.berths];
  if (here === undefined || there === undefined) throw new Error("no berths");
  const listen = kind === "tls" ? there.address : `unix:${join(hosts.folder, to.name)}.sock`;
  const offer = { method: "migrate-offer", device: there.socket, listen, pki: to.pki };
  const offered = { ...offer, from: kind === "tls" ? from.name : "local" };
  const { token } = (await askControl(there.control, offered, { timeoutMs })) as {
    readonly token: string;
  };
  const before = hosts.daemons.map(({ pid }) => usedMs(pid));
  const request = {
    ...{ method: "migrate", device: here.socket, to: listen, token, pki: from.pki },
    ...{ peer: to.name, precopy: false, vcpusStopped: true },
  };
  const { report } = (await askControl(here.control, request)) as { readonly report: Report };
  const used = hosts.daemons.map(({ pid }, i) => usedMs(pid) - (before[i] as number));
  const transfer = report.phases.find(({ phase }) => phase === "transfer");
  if (transfer === undefined) throw new Error(report.outcome?.sentence);
  const { elapsedMs } = transfer;
  return { bytes: report.bytes, elapsedMs, busiestMs: Math.max(...used) } satisfies Moved;
}

/** Lets a board go to and fro. The first time is not counted: compilers take a while. */
export async function moveBulk(kind: LinkKind, memoryMib: number): Promise<Turn[]> {
  const options = ["--set", `memoryMiB=${memoryMib}`, "--set", "prealloc=true", "--driver", driver];
  await using hosts = await Hosts.start("bulk", options);
  const [alice, bob] = hosts.plans as [HostPlan, HostPlan];
  const device = new RemoteDevice(Connection.connect(alice.berths[0]?.socket ?? ""), "bulk");
  fillBoard(device, memoryMib);
  await moveDevice(hosts, kind, alice, bob);
  const made: Turn[] = [];
  for (let i = 0; i < turns; i++) {
    const [from, to] = i % 2 === 0 ? [bob, alice] : [alice, bob];
    const socket = join(hosts.folder, `bare-${i}.sock`);
    const bare = await moveBare(kind, memoryMib * mib, socket, [from.pki, to.pki]);
    made.push({ bare, device: await moveDevice(hosts, kind, from, to) });
  }
  device.close();
  return made;
}
