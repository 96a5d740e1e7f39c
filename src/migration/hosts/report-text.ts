/** A report for people, in lines. */
import type { PhaseTime } from "./link-messages.ts";
import type { PhaseRow, Report } from "./report.ts";

const units = ["B", "KB", "MB", "GB", "TB"] as const;

/** `1.2 GB`, in powers of a thousand, as speeds are told. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export const rateText = (bytesPerSecond: number): string => `${bytesText(bytesPerSecond)}/s`;

/** `0.42 ms`, `12 ms`, `3.4 s`. */
export function timeText(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`;
}

/** How it ended, in a word or two. */
export const verdicts = { moved: "moved", kept: "not moved", open: "undecided" } as const;

/** One word for how it ended. */
export const verdictText = ({ outcome }: Report): string =>
  outcome === null ? "under way" : verdicts[outcome.outcome];

/** How this side's device is now; a source whose device has gone has nothing to tell. */
export function stateText({ side, outcome }: Report): string {
  if (outcome === null || (side === "source" && outcome.outcome === "moved")) return "";
  return `Here it is ${outcome.state}.`;
}

/** What was measured, by name. */
export function figures(report: Report): ReadonlyArray<readonly [name: string, value: string]> {
  const { bytes, rate, rounds, downtimeMs, elapsedMs } = report;
  return [
    ["took", timeText(elapsedMs)],
    ["stood still", downtimeMs === null ? "never" : timeText(downtimeMs)],
    ["moved", bytesText(bytes)],
    ["at", rateText(rate)],
    ["rounds", String(rounds)],
  ];
}

function timeLine({ phase, startMs, elapsedMs }: PhaseTime, result = ""): string {
  const from = timeText(startMs).padStart(9);
  return `  ${phase.padEnd(10)} ${from} + ${timeText(elapsedMs).padStart(8)}  ${result}`.trimEnd();
}

/** A phase with its times, and what came of it unless it was done. */
export const phaseLine = (row: PhaseRow): string =>
  timeLine(row, row.result === "done" ? "" : row.result);

/** The whole report, many lines, without a line break at its end. */
export function renderText(report: Report): string {
  const { device, side, peer, phases, theirs, notes, outcome } = report;
  const direction = side === "source" ? "to" : "from";
  return [
    `${device} ${direction} ${peer}: ${verdictText(report)}`,
    ...(outcome === null ? [] : [`${outcome.sentence} ${stateText(report)}`.trim()]),
    figures(report)
      .map(([name, value]) => `${name} ${value}`)
      .join(", "),
    "phases here:",
    ...phases.map(phaseLine),
    ...(theirs.length === 0 ? [] : ["phases there:", ...theirs.map((row) => timeLine(row))]),
    ...notes.map((note) => `note: ${note}`),
  ].join("\n");
}
