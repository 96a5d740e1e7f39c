/**
 * For how long no vCPU of a guest runs while it moves: with its device by `ferry vm migrate`, and
 * without one by QEMU alone, turn and turn about. `npm run bench:vm-migration -- 50` for more hops;
 * `-- 10 hello` for one kind. It needs what `npm run test:vm` needs.
 */
import { loadavg } from "node:os";
import { Qemu } from "../src/vm/qemu.ts";
import { busyCommand, usualMode } from "../test/vm/hisi-algorithms.ts";
import { MovingVm, type MovingVmKind } from "../test/vm/moving-vm.ts";
import { suites } from "../test/vm/recipe.ts";
import { median, quantile } from "./statistics.ts";

const hops = Number(process.argv[2] ?? 20);
const only = process.argv[3];
/** What ferry leaves QEMU of memory for the blackout; QEMU's own default is 300. */
const limitMs = 2;
const settleMs = 1000;

interface Kind {
  readonly vm: MovingVmKind;
  /** Sets the guest to work with its device. */
  readonly work: string;
  readonly promiseMs: number;
}

const hello = [{ name: "hello", settings: [] }] as const;
const selfTest = "{ (while true; do selftest; done > /dev/null 2>&1) & }";
const amd64 = { guestName: "amd64", memoryMiB: 512, devices: hello } as const;
const sec2 = [{ name: "hisi-sec2", settings: ["vectors=split"] }] as const;

const kinds: Readonly<Record<string, Kind>> = {
  hello: { vm: amd64, work: `load msi && ${selfTest}`, promiseMs: 30 },
  "hello, intel-iommu": {
    vm: { ...amd64, iommu: "intel" },
    work: `load msix && ${selfTest}`,
    promiseMs: 60,
  },
  "hisi-sec2": {
    vm: { guestName: "arm64", memoryMiB: 512, devices: sec2 },
    work:
      "prerequisites && insmod hisi_sec2.ko && within 200 tested sec2 && " +
      `busy sec2 ${busyCommand(usualMode(suites.stable))}`,
    promiseMs: 30,
  },
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

async function measure(name: string, { vm: kind, work, promiseMs }: Kind): Promise<void> {
  const own = await MovingVm.start(kind);
  await own.guest(work, 300_000);
  await own.here.machine.qmp.execute("stop");
  const bare = await MovingVm.start({ ...kind, devices: [] });
  await bare.guest("{ (while true; do head -c 65536 /dev/urandom > /dev/null; done) & }");
  await bare.here.machine.qmp.execute("stop");
  const [ours, alone, asItIs]: [Hop[], Hop[], Hop[]] = [[], [], []];
  for (let i = 0; i < hops; i++) {
    alone.push(await turn(bare, () => bareHop(bare, limitMs)));
    ours.push(await turn(own, () => ferryHop(own)));
    asItIs.push(await turn(bare, () => bareHop(bare, 300)));
  }
  for (const vm of [own, bare]) {
    await vm.here.machine.qmp.execute("cont");
    await vm.end();
  }
  print(`${name}: ferry`, ours, promiseMs);
  print(`  QEMU alone, no device, ${limitMs} ms`, alone, null);
  print("  QEMU alone, as it is (300 ms)", asItIs, null);
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
