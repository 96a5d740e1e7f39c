/** The pictures of a report, as SVG without scripts; colours are the page's. */
import type { PhaseTime } from "./link-messages.ts";
import type { PhaseRow, Report } from "./report.ts";
import { bytesText, timeText } from "./report-text.ts";

export const plain = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/** Sizes in pixels of a page that is 1000 wide. */
const width = 940;
const labelWidth = 104;
const rightMargin = 12;
const plotWidth = width - labelWidth - rightMargin;
const rowHeight = 28;
const barHeight = 16;
const axisHeight = 26;
const groupGap = 14;
const tickCount = 8;
/** A bar that is too short to be seen is this wide. */
const barWidthMin = 2;
/** The room that a duration needs beside its bar. */
const valueWidth = 74;

/** A span of time, drawn from left to right. */
class Scale {
  readonly fromMs: number;
  readonly toMs: number;

  constructor(fromMs: number, toMs: number) {
    this.fromMs = fromMs;
    this.toMs = Math.max(toMs, fromMs + 0.001);
  }

  x(ms: number): number {
    const share = (ms - this.fromMs) / (this.toMs - this.fromMs);
    return labelWidth + plotWidth * Math.min(1, Math.max(0, share));
  }

  /** Round times since the left end, not too many of them: where they are, and what they say. */
  get ticks(): ReadonlyArray<readonly [x: number, label: string]> {
    const spanMs = this.toMs - this.fromMs;
    const rough = spanMs / tickCount;
    const magnitude = 10 ** Math.floor(Math.log10(rough));
    const step = ([1, 2, 5, 10].find((each) => each * magnitude >= rough) ?? 10) * magnitude;
    return Array.from({ length: Math.floor(spanMs / step) + 1 }, (_, at) => {
      const label = at === 0 ? "0" : timeText(at * step).replace(/\.0+(?= )/, "");
      return [this.x(this.fromMs + at * step), label] as const;
    });
  }
}

const n = (value: number): string => value.toFixed(1);

/** The phases in which nobody runs: of a source, of a target, of a VM. */
const standing: ReadonlySet<string> = new Set([
  ...["freeze", "save", "transfer", "hand over"],
  ...["validate", "commit", "thaw"],
  ...["fence", "switch", "restore", "run"],
]);

function barClass(scale: Scale, { phase }: PhaseTime, result: PhaseRow["result"]): string {
  if (result === "failed" || result === "undone") return result;
  return standing.has(phase) || scale.fromMs > 0 ? "still" : "live";
}

/** Where a duration is told: behind its bar, before it, or, where there is no room, in it. */
function valuePlace(from: number, to: number): readonly [x: number, anchor: string, kind: string] {
  if (to + valueWidth < width) return [to + 6, "start", "value"];
  if (from - valueWidth > labelWidth) return [from - 6, "end", "value"];
  return [to - 8, "end", "inside"];
}

function bar(scale: Scale, row: PhaseTime, result: PhaseRow["result"], y: number): string {
  const from = scale.x(row.startMs);
  const to = Math.max(scale.x(row.startMs + row.elapsedMs), from + barWidthMin);
  const top = y + (rowHeight - barHeight) / 2;
  const told = `${timeText(row.elapsedMs)}${result === "done" ? "" : ` ${result}`}`;
  const [x, anchor, kind] = valuePlace(from, to);
  const size = `width="${n(to - from)}" height="${barHeight}" rx="3"`;
  return [
    `<text class="label" x="${labelWidth - 12}" y="${y + 18}">${plain(row.phase)}</text>`,
    `<rect class="${barClass(scale, row, result)}" x="${n(from)}" y="${n(top)}" ${size}>`,
    `<title>${plain(row.phase)}: ${told}</title></rect>`,
    `<text class="${kind}" x="${n(x)}" y="${y + 18}" text-anchor="${anchor}">${told}</text>`,
  ].join("");
}

function axis(scale: Scale, height: number): string {
  const lines = scale.ticks.map(([at, label]) => {
    const x = n(at);
    return (
      `<line class="grid" x1="${x}" x2="${x}" y1="${axisHeight - 6}" y2="${height}"/>` +
      `<text class="tick" x="${x}" y="14" text-anchor="middle">${label}</text>`
    );
  });
  return lines.join("");
}

interface Group {
  readonly name: string;
  readonly rows: ReadonlyArray<{ readonly row: PhaseTime; readonly result: PhaseRow["result"] }>;
}

function groupsOf(report: Report, fromMs: number): Group[] {
  const seen = ({ startMs, elapsedMs }: PhaseTime): boolean => startMs + elapsedMs >= fromMs;
  const here = report.phases.filter(seen).map((row) => ({ row, result: row.result }));
  const there = report.theirs.filter(seen).map((row) => ({ row, result: "done" as const }));
  const [name, other] = report.side === "source" ? ["source", "target"] : ["target", "source"];
  return [
    { name, rows: here },
    { name: other, rows: there },
  ].filter(({ rows }) => rows.length > 0);
}

const svg = (height: number, title: string, content: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">` +
  `<title>${plain(title)}</title>${content}</svg>`;

/** The phases of both sides from a moment on, one row each. */
export function timeline(report: Report, fromMs: number, title: string): string {
  const scale = new Scale(fromMs, report.elapsedMs);
  const parts: string[] = [];
  let y = axisHeight;
  for (const { name, rows } of groupsOf(report, fromMs)) {
    parts.push(`<text class="side" x="0" y="${y + 12}">${name}</text>`);
    y += 18;
    for (const { row, result } of rows) {
      parts.push(bar(scale, row, result, y));
      y += rowHeight;
    }
    y += groupGap;
  }
  const height = y - groupGap + 4;
  const stoodMs = report.downtimeMs;
  const band =
    stoodMs === null || fromMs > 0 ? "" : stood(scale, report.elapsedMs, stoodMs, height);
  return svg(height, title, `${band}${axis(scale, height)}${parts.join("")}`);
}

/** The time in which nobody ran, behind the bars. */
function stood(scale: Scale, elapsedMs: number, stoodMs: number, height: number): string {
  const from = scale.x(elapsedMs - stoodMs);
  const size = `width="${n(scale.x(elapsedMs) - from)}" height="${height - axisHeight + 6}"`;
  return `<rect class="band" x="${n(from)}" y="${axisHeight - 6}" ${size}/>`;
}

const chartHeight = 150;
const chartTop = 12;
const chartBottom = chartHeight - 24;

/** What was sent, and what was still to be sent, over time; empty for less than two points. */
export function progressChart(report: Report): string {
  const { progress, elapsedMs, bytes } = report;
  if (progress.length < 2) return "";
  const scale = new Scale(0, elapsedMs);
  const most = Math.max(bytes, ...progress.map((each) => Math.max(each.bytes, each.dirtyBytes)), 1);
  const y = (value: number): string => n(chartBottom - (chartBottom - chartTop) * (value / most));
  const line = (points: ReadonlyArray<readonly [number, number]>): string =>
    points.map(([ms, value]) => `${n(scale.x(ms))},${y(value)}`).join(" ");
  const sent = [[0, 0] as const, ...progress.map(({ atMs, bytes: each }) => [atMs, each] as const)];
  const dirty = progress.map(({ atMs, dirtyBytes }) => [atMs, dirtyBytes] as const);
  const marks = [0, most / 2, most].map(
    (value) =>
      `<line class="grid" x1="${labelWidth}" x2="${width - rightMargin}" y1="${y(value)}" ` +
      `y2="${y(value)}"/><text class="label" x="${labelWidth - 12}" y="${Number(y(value)) + 4}">` +
      `${bytesText(value)}</text>`,
  );
  const ticks = scale.ticks.map(
    ([x, label]) =>
      `<text class="tick" x="${n(x)}" y="${chartHeight - 6}" text-anchor="middle">${label}</text>`,
  );
  const content = [
    ...marks,
    ...ticks,
    `<polyline class="sent" points="${line(sent)}"/>`,
    `<polyline class="dirty" points="${line(dirty)}"/>`,
  ];
  return svg(chartHeight, "bytes sent and bytes still to be sent", content.join(""));
}
