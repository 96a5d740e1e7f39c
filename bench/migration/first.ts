/** The device's own part of the first migration of a process, when nothing of it has run before. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { compileAhead } from "../../src/host/compiling.ts";

/** Milliseconds that a save and a load have taken, each time in a process of its own. */
export async function firstSavesAndLoads(times: number): Promise<number[]> {
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const child = fork(fileURLToPath(import.meta.url));
    const [ms] = (await once(child, "message")) as [number];
    taken.push(ms);
    await once(child, "exit");
  }
  return taken;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  compileAhead();
  const { saveAndLoad } = await import("./state.ts");
  const { saveMs, loadMs } = saveAndLoad(1);
  process.send?.((saveMs[0] as number) + (loadMs[0] as number), () => process.exit());
}
