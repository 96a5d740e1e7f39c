/**
 * How long a guest goes without an answer while its SEC2 VF moves: from the last completion on one
 * host to the first one on the other, with 16 queues under load and a hostile neighbour.
 *
 * The neighbour attacks from one CPU. Guest and daemons may use that one too: a device's thread is
 * woken by its main thread, and each of both daemons has one of either.
 */
import { randomBytes } from "node:crypto";
import { Crossing } from "../../src/cli/demo/crossing.ts";
import { GuestFunction } from "../../src/cli/demo/guest-function.ts";
import type { HostPlan } from "../../src/cli/demo/messages.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import type { Workload } from "../../src/guest/work.ts";

const queues = 16;
const bytes = 4096;
const memoryBytes = 4 * 1_048_576;
const loadMs = 40;

/** AES-CBC of 4 KiB in all queues. */
function open(device: VfioDevice): Workload {
  const driver = new Sec2Driver(device, {
    ...{ depth: 4, queues, dataBytesMax: bytes, memoryBytes, interrupts: false },
  });
  const request = { algorithm: "cbc(aes)", encrypt: true, key: randomBytes(16) } as const;
  const sample = { ...request, iv: randomBytes(16), data: randomBytes(bytes) };
  const expected = Buffer.from(driver.run(sample).data);
  const start = () => {
    const call = driver.submit(sample);
    return { call, correct: () => expected.equals(call.value.data) };
  };
  return { device: "hisi-sec2", qm: driver.qm, works: [{ name: "cbc(aes)", bytes, start }] };
}

/** When the guest was how far, in milliseconds since its last completion on the host it left. */
export interface Marks {
  readonly stopped: number;
  readonly saved: number;
  readonly copied: number;
  readonly running: number;
  readonly connected: number;
  readonly answered: number;
}

/** One move: the guest's marks, the last of which is the blackout, and the daemons' phases. */
export interface Blackout {
  readonly marks: Marks;
  readonly phases: Readonly<Record<string, number>>;
}

/** A guest with one SEC2 VF. */
export class Traveller {
  readonly #function: GuestFunction;

  constructor(host: HostPlan) {
    this.#function = new GuestFunction(host.berths[0]?.socket ?? "", queues, open);
  }

  get load() {
    return this.#function.load;
  }

  #work(ms: number): void {
    const endMs = performance.now() + ms;
    while (performance.now() < endMs) this.load.turn(0);
  }

  async move(from: HostPlan, to: HostPlan): Promise<Blackout> {
    const each = this.#function;
    await each.prepare(to.berths[0]?.socket ?? "");
    const crossing = await Crossing.begin(from, to, 0);
    await crossing.reaches("freeze");
    this.#work(loadMs);
    each.copyMemory();
    this.#work(loadMs);
    each.load.fill();
    const lastEndMs = each.load.lastEndMs;
    const now = (): number => performance.now() - lastEndMs;
    const stopped = now();
    await crossing.goOn();
    await crossing.reaches("save");
    const saved = now();
    each.copyMemory();
    const copied = now();
    await crossing.goOn("hand over");
    await crossing.reaches("running");
    const running = now();
    each.arrive();
    const connected = now();
    while (each.load.firstEndMs === 0) each.load.turn(0);
    const answered = each.load.firstEndMs - lastEndMs;
    const report = await crossing.report();
    const phases = Object.fromEntries(
      report.phases.map(({ phase, elapsedMs }) => [phase, elapsedMs]),
    );
    const marks = { stopped, saved, copied, running, connected, answered };
    return { marks, phases };
  }

  /** Waits for what is under way; how many requests were lost or wrong. */
  finish(): number {
    const endMs = performance.now() + 10_000;
    while (this.load.pending > 0 && performance.now() < endMs) this.load.collect(1);
    this.#function.close();
    return this.load.pending + this.load.wrong;
  }
}
