/**
 * For how long no vCPU of a guest runs while it moves: with its device by `ferry vm migrate`, and
 * without one by QEMU alone, turn and turn about. `npm run bench:vm-migration -- 50` for more hops;
 * `-- 10 hello` for one kind. It needs what `npm run test:vm` needs.
 */
import { loadavg } from "node:os";
import { firstLimitMs } from "../src/vm/downtime-limit.ts";
import { Qemu } from "../src/vm/qemu.ts";
import { type GuestWork, helloWork, sec2Work } from "../test/vm/guest-work.ts";
import { MovingVm, type MovingVmKind } from "../test/vm/moving-vm.ts";
import { median, quantile } from "./statistics.ts";

const hops = Number(process.argv[2] ?? 20);
const only = process.argv[3];
/** What QEMU leaves itself of memory for the blackout by default. */
const usualLimitMs = 300;
const settleMs = 1000;

interface Kind {
  readonly work: GuestWork;
  readonly iommu?: MovingVmKind["iommu"];
  readonly promiseMs: number;
}

const kinds: Readonly<Record<string, Kind>> = {
  hello: { work: helloWork("msi"), promiseMs: 30 },
  "hello, intel-iommu": { work: helloWork("msix"), iommu: "intel", promiseMs: 60 },
  "hisi-sec2": { work: sec2Work(512, ["vectors=split"]), promiseMs: 30 },
};

const phases = ["fence", "freeze", "switch", "restore", "hand over", "run"] as const;
type Hop = Readonly<Partial<Record<"blackout" | (typeof phases)[number], number>>>;

/** Moves a VM without a device as QEMU moves it, as soon as its vCPUs stand still. */
async function bareHop(vm: MovingVm, downtimeMs: number): Promise<Hop> {
  const to = await vm.stop(true);
  const [source, target] = [vm.here.machine, to.machine];
  const from = await Qemu.connect(source.monitorPath);
  const there = await Qemu.connect(target.monitorPath);
  for (const qemu of [from, there]) await qemu.setCapabilities({ events: true });
  await from.setDowntimeLimit(downtimeMs);
  const uri = `unix:${target.monitorPath}.vm`;
  await there.incoming(uri);
  await from.migrate(uri);
  await Promise.all([from, there].map((qemu) => qemu.reaches("completed", 60_000)));
  await there.run();
  const [stopMs = Number.NaN, runMs = Number.NaN] = [
    await from.lastAt("STOP"),
    await there.lastAt("RESUME"),
  ];
  await from.quit();
  there.close();
  await source.left();
  vm.here = to;
  return { blackout: runMs - stopMs };
}

async function ferryHop(vm: MovingVm): Promise<Hop> {
  const { blackoutMs, phases: times } = await vm.hop();
  const of = (name: string): number => times.find(({ phase }) => phase === name)?.elapsedMs ?? 0;
  return {
    blackout: blackoutMs ?? Number.NaN,
    ...Object.fromEntries(phases.map((name) => [name, of(name)])),
  };
}

/** Lets a VM run for one hop; the others stand still and take no processor from it. */
async function turn(vm: MovingVm, hop: () => Promise<Hop>): Promise<Hop> {
  await vm.here.machine.qmp.execute("cont");
  await new Promise((resolve) => setTimeout(resolve, settleMs));
  const done = await hop();
  await vm.here.machine.qmp.execute("stop");
  return done;
}

const row = (name: string, cells: readonly string[]): string =>
  name.padEnd(34) + cells.map((cell) => cell.padStart(10)).join("");

function print(name: string, all: readonly Hop[], promiseMs: number | null): void {
  const of = (what: keyof Hop): number[] => all.map((hop) => hop[what] ?? Number.NaN);
  const blackouts = of("blackout");
  const whole = [0.5, 0.99].map((part) => quantile(blackouts, part).toFixed(1));
  if (promiseMs === null) {
    console.log(row(name, whole));
    return;
  }
  const kept = quantile(blackouts, 0.5) <= promiseMs;
  const verdict = `   p50 <= ${promiseMs} ms  ${kept ? "pass" : "MISSED"}`;
  const parts = phases.map((phase) => quantile(of(phase), 0.5).toFixed(1));
  console.log(row(name, [...whole, ...parts]) + verdict);
  if (!kept) process.exitCode = 1;
}

async function measure(name: string, { work, iommu, promiseMs }: Kind): Promise<void> {
  const kind = { ...work, ...(iommu && { iommu }) };
  const own = await MovingVm.start(kind);
  await own.guest(work.begin, 300_000);
  await own.here.machine.qmp.execute("stop");
  const bare = await MovingVm.start({ ...kind, devices: [] });
  await bare.guest("{ (while true; do head -c 65536 /dev/urandom > /dev/null; done) & }");
  await bare.here.machine.qmp.execute("stop");
  const [ours, alone, asItIs]: [Hop[], Hop[], Hop[]] = [[], [], []];
  for (let i = 0; i < hops; i++) {
    alone.push(await turn(bare, () => bareHop(bare, firstLimitMs)));
    ours.push(await turn(own, () => ferryHop(own)));
    asItIs.push(await turn(bare, () => bareHop(bare, usualLimitMs)));
  }
  for (const vm of [own, bare]) {
    await vm.here.machine.qmp.execute("cont");
    await vm.end();
  }
  print(`${name}: ferry`, ours, promiseMs);
  print(`  QEMU alone, no device, ${firstLimitMs} ms`, alone, null);
  print(`  QEMU alone, as it is (${usualLimitMs} ms)`, asItIs, null);
  const [blackout = Number.NaN, usual = Number.NaN] = [ours, asItIs].map((all) =>
    median(all.map((hop) => hop.blackout ?? Number.NaN)),
  );
  console.log(`  ferry against QEMU as it is: ${(blackout / usual).toFixed(1)} times`);
}

console.log(row(`${hops} hops of 512 MiB, ms (p50, p99; p50)`, ["blackout", "p99", ...phases]));
for (const [name, kind] of Object.entries(kinds)) {
  if (only !== undefined && name !== only) continue;
  await measure(name, kind);
}
console.log(`load average at the end: ${loadavg().map((load) => load.toFixed(1))}`);
