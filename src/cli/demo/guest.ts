/** The guest's process: it plays a VM with accelerators, and the VMM that moves it. */
import { FerryError, messageOf } from "../../base/errors.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { openWorkload } from "../../guest/workloads.ts";
import { Crossing } from "./crossing.ts";
import { GuestFunction } from "./guest-function.ts";
import type {
  Berth,
  DeviceMove,
  GuestAnswer,
  GuestCount,
  GuestOrder,
  HostPlan,
} from "./messages.ts";

/** Requests under way in each device. */
const depth = 8;
const memoryBytes = 16 * 1_048_576;
/** Rounds of copying memory while the guest runs, and the time between them. */
const rounds = 2;
const roundMs = 20;
/** How long the last requests may take at the end. */
const drainMs = 10_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Guest {
  readonly #functions: readonly GuestFunction[];
  #running = true;
  #stopped = false;
  readonly #vcpu: Promise<void>;

  constructor({ berths }: HostPlan) {
    const open = (device: VfioDevice) => openWorkload(device, { depth, memoryBytes });
    const boot = ({ socket }: Berth) => new GuestFunction(socket, depth, open);
    this.#functions = berths.map(boot);
    this.#vcpu = this.#run();
  }

  get devices(): string[] {
    return this.#functions.map(({ name }) => name);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      if (this.#running) for (const { load } of this.#functions) load.turn(0);
      await nextTurn();
    }
  }

  /** Moves to the other host, all devices at once. */
  async move(from: HostPlan, to: HostPlan): Promise<DeviceMove[]> {
    const functions = this.#functions;
    await Promise.all(to.berths.map(({ socket }, i) => functions[i]?.prepare(socket)));
    const all = await Promise.all(functions.map((_, i) => Crossing.begin(from, to, i)));
    await Promise.all(all.map((each) => each.reaches("freeze")));
    for (let round = 0; round < rounds; round++) {
      for (const each of functions) each.copyMemory();
      await pause(roundMs);
    }
    this.#running = false;
    for (const { load } of functions) load.fill();
    const underWay = functions.map(({ load }) => load.pending);
    await Promise.all(all.map((each) => each.goOn()));
    await Promise.all(all.map((each) => each.reaches("save")));
    for (const each of functions) each.copyMemory();
    await Promise.all(all.map((each) => each.reaches("hand over")));
    await Promise.all(all.map((each) => each.goOn()));
    await Promise.all(all.map((each) => each.reaches("running")));
    const lastEnds = functions.map(({ load }) => load.lastEndMs);
    if (all.every(({ arrived }) => arrived)) {
      for (const each of functions) each.arrive();
    }
    this.#running = true;
    const reports = await Promise.all(all.map((each) => each.report()));
    const moved = reports.every(({ outcome }) => outcome?.outcome === "moved");
    if (!moved) throw new FerryError("demo-failed", reports.map(sentenceOf).join(" "));
    return await Promise.all(
      functions.map(async (each, i) => ({
        device: each.name,
        report: reports[i] as DeviceMove["report"],
        pages: each.pages.all,
        lastPages: each.pages.last,
        blackoutMs: (await firstEnd(each)) - (lastEnds[i] as number),
        underWay: underWay[i] as number,
      })),
    );
  }

  /** Gives no new work, and waits for what is under way. */
  async stop(): Promise<GuestCount[]> {
    this.#stopped = true;
    await this.#vcpu;
    const endMs = performance.now() + drainMs;
    for (const { load } of this.#functions) {
      while (load.pending > 0 && performance.now() < endMs) load.collect(1);
    }
    return this.#functions.map(({ name: device, load }) => {
      const { submitted, operations, wrong, pending: lost, firstError } = load;
      return { device, submitted, operations, wrong, lost, firstError };
    });
  }

  close(): void {
    for (const each of this.#functions) each.close();
  }
}

const sentenceOf = ({ outcome }: DeviceMove["report"]): string => outcome?.sentence ?? "";

/** When the first request ended on the new host. */
async function firstEnd({ load }: GuestFunction): Promise<number> {
  while (load.firstEndMs === 0) await nextTurn();
  return load.firstEndMs;
}

let guest: Guest | null = null;

async function obey(order: GuestOrder): Promise<GuestAnswer> {
  if (order.op === "boot") {
    guest = new Guest(order.host);
    return { kind: "booted", devices: guest.devices };
  }
  if (guest === null) throw new FerryError("demo-failed", "the guest was not booted.");
  if (order.op === "move") {
    return { kind: "moved", moves: await guest.move(order.from, order.to) };
  }
  const counts = await guest.stop();
  guest.close();
  return { kind: "stopped", counts };
}

process.on("message", (order: GuestOrder) => {
  obey(order)
    .catch((thrown: unknown): GuestAnswer => ({ kind: "failed", why: messageOf(thrown) }))
    .then((answer) => process.send?.(answer, () => order.op === "stop" && process.exit()));
});
process.on("disconnect", () => process.exit());
