import { type Column, columns, type Figure, type Promised, speedRatio } from "./figures.ts";
import { median, quantile } from "./statistics.ts";

/** A figure of both sides, measured one right after the other. */
export interface Pair {
  readonly ours: number | undefined;
  readonly peer: number | undefined;
}

/** What the pairs of one figure in one column come to; undefined where nothing was measured. */
export interface Summary {
  readonly ours: number | undefined;
  readonly peer: number | undefined;
  /** The median of the pairs' ratios, and its quartiles: speed, or cost for a cost promise. */
  readonly ratio: number | undefined;
  readonly quartiles: readonly [number, number] | undefined;
}

export type Verdict = "pass" | "MISSED" | "no figure" | "no peer";

export interface Line {
  readonly figure: Figure;
  readonly summary: Readonly<Record<Column, Summary | undefined>>;
  readonly verdict: Verdict;
}

function pairRatio(figure: Figure, ours: number, peer: number): number {
  return figure.promised.kind === "cost" ? ours / peer : speedRatio(figure, ours, peer);
}

const present = (value: number | undefined): value is number => value !== undefined;

/**
 * Ratios are taken pair by pair before the median: what disturbs the machine for a second disturbs
 * both sides of a pair, and a median of medians would not know which belonged together.
 */
export function summarize(figure: Figure, pairs: readonly Pair[]): Summary {
  const ours = pairs.map((pair) => pair.ours).filter(present);
  const peer = pairs.map((pair) => pair.peer).filter(present);
  const ratios = pairs.flatMap((pair) =>
    pair.ours === undefined || pair.peer === undefined
      ? []
      : [pairRatio(figure, pair.ours, pair.peer)],
  );
  return {
    ours: ours.length > 0 ? median(ours) : undefined,
    peer: peer.length > 0 ? median(peer) : undefined,
    ratio: ratios.length > 0 ? median(ratios) : undefined,
    quartiles: ratios.length > 0 ? [quantile(ratios, 0.25), quantile(ratios, 0.75)] : undefined,
  };
}

/** Judges a figure by its one-CPU column. */
export function judge(promised: Promised, summary: Summary | undefined): Verdict {
  if (summary?.ours === undefined) return "no figure";
  const { ours, ratio } = summary;
  switch (promised.kind) {
    case "atLeast":
      return ours >= promised.value ? "pass" : "MISSED";
    case "atMost":
      return ours <= promised.value ? "pass" : "MISSED";
    case "speed":
      if (ratio === undefined) return "no peer";
      return ratio >= promised.ratio ? "pass" : "MISSED";
    case "cost":
      if (ratio === undefined) return "no peer";
      return ratio <= promised.ratio ? "pass" : "MISSED";
  }
}

function promiseText(figure: Figure): string {
  const { promised } = figure;
  switch (promised.kind) {
    case "speed":
      return `>= ${promised.ratio.toFixed(2)} x`;
    case "cost":
      return `<= ${promised.ratio.toFixed(2)} x`;
    case "atLeast":
      return `>= ${promised.value} ${figure.unit}`;
    case "atMost":
      return `<= ${promised.value} ${figure.unit}`;
  }
}

/** Three significant digits, never an exponent. */
function amount(value: number | undefined, unit = ""): string {
  if (value === undefined) return "-";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return `${value.toFixed(digits)}${unit === "" ? "" : ` ${unit}`}`;
}

const titleWidth = 22;
const valueWidth = 11;
const ratioWidth = 8;

function columnCells(ours: string, peer: string, ratio: string): string {
  return `| ${ours.padStart(valueWidth)}${peer.padStart(valueWidth)}${ratio.padStart(ratioWidth)} `;
}

function lineCells(figure: Figure, summary: Summary | undefined): string {
  return columnCells(
    amount(summary?.ours, figure.unit),
    amount(summary?.peer, figure.unit),
    summary?.ratio === undefined ? "-" : `${summary.ratio.toFixed(2)} x`,
  );
}

/** The table, every line ended. */
export function renderTable(lines: readonly Line[], peerName: string): string {
  const width = columnCells("", "", "").length;
  const titles = ["| one CPU", "| two CPUs"].map((title) => title.padEnd(width)).join("");
  const head = columns.map(() => columnCells("ours", peerName, "ratio")).join("");
  const rows = lines.map(({ figure, summary, verdict }) =>
    [
      figure.title.padEnd(titleWidth),
      ...columns.map((column) => lineCells(figure, summary[column])),
      `| ${promiseText(figure).padEnd(12)}`,
      verdict,
    ].join(""),
  );
  return [
    `${"".padEnd(titleWidth)}${titles}|`,
    `${"figure".padEnd(titleWidth)}${head}| ${"promise".padEnd(12)}verdict`,
    ...rows,
    "",
  ].join("\n");
}
