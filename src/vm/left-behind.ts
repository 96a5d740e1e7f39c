/** What a VM that has not moved is told of: whether its source has it, and goes on with it. */
import { FerryError, messageOf } from "../base/errors.ts";
import type { Qemu } from "./qemu.ts";

/** Where the VM is, and what is wrong there; empty when nothing is. */
export interface LeftBehind {
  readonly trouble: string;
  readonly sentence: string;
}

/** `notBack` says which devices have not come back; empty when all have. */
export async function lookBack(
  source: Qemu,
  target: Qemu,
  notBack: string,
  thrown: unknown,
): Promise<LeftBehind> {
  const why = messageOf(thrown);
  const wrong = (trouble: string, then = ""): LeftBehind => ({
    trouble,
    sentence: `The VM has not moved, and ${trouble}${then} What failed: ${why}`,
  });
  let state: string;
  try {
    state = await source.runState();
  } catch (lost) {
    if (lost instanceof FerryError && lost.code === "qmp-lost") {
      return wrong(`${lost.message}`, ` If ${source.path} has ended, so has the VM.`);
    }
    const waits = `It may wait for ${target.path}, or for a device's server: end what hangs.`;
    const then = `When it answers, say migrate_cancel and cont to it.`;
    return wrong(`${source.path} does not answer: the VM may stand still.`, ` ${waits} ${then}`);
  }
  const { why: reason } = await source.progress().catch(() => ({ why: "" }));
  const where = `The VM stays with ${source.path}, where it is ${state}`;
  const sentence = `${where}${notBack === "" ? "" : `, but ${notBack}`}: ${why} ${reason}`.trim();
  return { trouble: state === "running" ? notBack : `it is ${state}`, sentence };
}
