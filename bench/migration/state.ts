/** The device's own part of a migration, in one process: stopping, saving, loading, going on. */
import { planes } from "../../src/devices/hisi-sec2/index.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { hisiAcc } from "../../src/migration/drivers/hisi-acc/driver.ts";
import { Migratable } from "../../src/migration/migratable.ts";
import { MigState } from "../../src/spec/vfio.ts";

const queues = 16;
const streamBytesMax = 1_048_576;

function vf(): Migratable {
  const both = planes({ queues: String(queues) });
  return new Migratable(both, hisiAcc.create(both), () => performance.now());
}

function move(device: Migratable, to: number): void {
  let result: number | null = null;
  device.move(to, (ended) => {
    result = ended;
  });
  while (result === null) device.work();
  if (result < 0) throw new Error(`no way to state ${to}: ${result}`);
}

/** Saves a VF that has all queues in use and loads it into another one, so many times. */
export function saveAndLoad(times: number): { saveMs: number[]; loadMs: number[] } {
  const [source, target] = [vf(), vf()];
  const driver = new Sec2Driver(source, {
    queues,
    depth: 4,
    dataBytesMax: 4096,
    interrupts: false,
  });
  const saveMs: number[] = [];
  const loadMs: number[] = [];
  const sink = { bytes: new Uint8Array(streamBytesMax), at: 0, lend: () => {} };
  for (const each of [source, target]) each.claim();
  for (let i = 0; i < times; i++) {
    const begun = performance.now();
    move(source, MigState.stopCopy);
    const length = source.readStream(sink, streamBytesMax);
    const saved = performance.now();
    move(target, MigState.resuming);
    if (target.writeStream(sink.bytes, 0, length) < 0) throw new Error(target.refusal);
    move(target, MigState.stop);
    loadMs.push(performance.now() - saved);
    saveMs.push(saved - begun);
    move(source, MigState.running);
    target.abort(() => {});
  }
  driver.close();
  return { saveMs, loadMs };
}
