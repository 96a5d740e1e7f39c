/** How a VM's migration went, as data and in lines. */
import type { PhaseRow, Report } from "../migration/hosts/report.ts";
import { phaseLine, timeText, verdicts } from "../migration/hosts/report-text.ts";
import type { VmEnd } from "./vm-move.ts";

/** How it ended, how long it took and how long no vCPU ran; times in milliseconds. */
export interface VmReport extends VmEnd {
  readonly elapsedMs: number;
  /** From the stop of the source's vCPUs until the target's ran; null when they did not. */
  readonly blackoutMs: number | null;
  readonly phases: readonly PhaseRow[];
  readonly notes: readonly string[];
}

/** The whole report, many lines, without a line break at its end. */
export function renderVmReport(report: VmReport): string {
  const { outcome, sentence, elapsedMs, blackoutMs, phases, notes } = report;
  const stood = blackoutMs === null ? "" : `, its vCPUs stood still for ${timeText(blackoutMs)}`;
  return [
    `the VM has ${verdicts[outcome]}`,
    sentence,
    `took ${timeText(elapsedMs)}${stood}`,
    "phases:",
    ...phases.map(phaseLine),
    ...notes.map((note) => `note: ${note}`),
  ].join("\n");
}

const states = { moved: "", kept: "as before", open: "standing still" } as const;

/**
 * The same as a page draws it: to when the VM runs, after which only its source has something to
 * do. `report` is what was told meanwhile.
 */
export function drawn(report: Report, { outcome, sentence, blackoutMs }: VmReport): Report {
  const run = report.phases.find(({ phase, result }) => phase === "run" && result === "done");
  const elapsedMs = run === undefined ? report.elapsedMs : run.startMs + run.elapsedMs;
  const { bytes, rate } = report.progress.at(-1) ?? { bytes: 0, rate: 0 };
  return {
    ...report,
    ...{ elapsedMs, bytes, rate, downtimeMs: blackoutMs },
    phases: report.phases.filter(({ startMs }) => startMs < elapsedMs),
    outcome: { outcome, sentence, state: states[outcome], theirs: [] },
  };
}
