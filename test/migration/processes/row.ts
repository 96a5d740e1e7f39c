import { type Fault, linkOf } from "./faults.ts";
import { Outcome } from "./outcome.ts";
import { Scene } from "./scene.ts";
import { Trip } from "./trip.ts";

/** How one row of the table of faults went. */
export interface Row {
  /** False when the migration had ended before the fault's moment came. */
  readonly struck: boolean;
  /** Who has the device, and how it came to that. */
  readonly ended: string;
  /** What must not be, as sentences. */
  readonly wrong: readonly string[];
  readonly elapsedMs: number;
}

/** Runs one fault to its end, in processes of its own; `certificates` is their folder. */
export async function runFault(fault: Fault, certificates: string): Promise<Row> {
  const startMs = performance.now();
  await using scene = await Scene.begin(linkOf(fault), certificates);
  const trip = new Trip(scene, fault);
  const outcome = new Outcome(trip);
  try {
    await trip.run();
    await outcome.check();
  } catch (thrown) {
    outcome.wrong.push(String((thrown as Error).stack));
  } finally {
    trip.watch?.end();
  }
  const { ended } = outcome;
  const wrong = [...outcome.wrong, ...(trip.watch?.violations ?? [])];
  return { struck: trip.struck, ended, wrong, elapsedMs: performance.now() - startMs };
}
