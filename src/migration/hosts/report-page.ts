/** A report as one page that needs nothing from elsewhere and runs nothing. */
import type { Report } from "./report.ts";
import { plain, progressChart, timeline } from "./report-chart.ts";
import { figures, stateText, timeText, verdictText } from "./report-text.ts";

const style = `
:root {
  color-scheme: light dark;
  --paper: #f7f7f5; --card: #ffffff; --ink: #1d2329; --soft: #68727d; --line: #e3e5e8;
  --live: #3b78c4; --still: #d98a1f; --failed: #c8403a; --undone: #a9b1ba; --good: #2b8a5f;
  --band: rgba(217, 138, 31, .10);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1d2126; --ink: #e6e9ec; --soft: #97a1ac; --line: #2f353c;
    --live: #6aa5ec; --still: #eaa64a; --failed: #ec6f68; --undone: #59626c; --good: #58c08f;
    --band: rgba(234, 166, 74, .11);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 32px 20px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1000px; margin: 0 auto; }
header { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; }
h1 { margin: 0; font-size: 26px; font-weight: 650; letter-spacing: -.01em; }
h2 { margin: 0 0 12px; font-size: 15px; font-weight: 600; }
.way { color: var(--soft); }
.verdict {
  margin-left: auto; padding: 3px 14px; border-radius: 999px; font-weight: 600; font-size: 14px;
  color: var(--card); background: var(--soft);
}
.verdict.moved { background: var(--good); }
.verdict.kept { background: var(--still); }
.verdict.open { background: var(--failed); }
.sentence { margin: 10px 0 22px; max-width: 76ch; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.figure, section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
}
.figure { padding: 12px 16px 14px; }
.figure dt { color: var(--soft); font-size: 13px; }
.figure dd { margin: 0; font-size: 24px; font-weight: 600; font-variant-numeric: tabular-nums; }
dl { margin: 0; }
section { padding: 18px 20px; margin-top: 16px; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .label { text-anchor: end; }
svg .tick, svg .value { fill: var(--soft); font-size: 11.5px; }
svg .inside { fill: var(--card); font-size: 11.5px; }
svg .side { font-weight: 600; fill: var(--soft); }
svg .grid { stroke: var(--line); }
svg .band { fill: var(--band); }
svg .live { fill: var(--live); }
svg .still { fill: var(--still); }
svg .failed { fill: var(--failed); }
svg .undone { fill: var(--undone); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .sent { stroke: var(--live); }
svg .dirty { stroke: var(--still); stroke-dasharray: 5 4; }
.key { display: flex; gap: 18px; margin-top: 12px; color: var(--soft); font-size: 13px; }
.key i {
  display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
}
ul { margin: 0; padding-left: 18px; }
footer { margin-top: 20px; color: var(--soft); font-size: 13px; }
@media print { body { background: none; padding: 0; } section, .figure { break-inside: avoid; } }
`;

const colours = [
  ["live", "the guest runs"],
  ["still", "the device stands still"],
  ["failed", "failed"],
  ["undone", "undone"],
] as const;

function key(report: Report): string {
  const results = new Set(report.phases.map(({ result }) => String(result)));
  const shown = colours.filter(
    ([name]) => name === "live" || name === "still" || results.has(name),
  );
  const items = shown.map(
    ([name, meaning]) => `<span><i style="background:var(--${name})"></i>${meaning}</span>`,
  );
  return `<div class="key">${items.join("")}</div>`;
}

const section = (title: string, content: string): string =>
  content === "" ? "" : `<section><h2>${plain(title)}</h2>${content}</section>`;

/** What happened while nobody ran, which in a whole migration is too short to be seen. */
function standstill(report: Report): string {
  const { downtimeMs, elapsedMs } = report;
  if (downtimeMs === null || downtimeMs > elapsedMs / 2) return "";
  const title = `While it stood still: ${timeText(downtimeMs)}`;
  return section(title, timeline(report, elapsedMs - downtimeMs, title));
}

function progress(report: Report): string {
  const chart = progressChart(report);
  if (chart === "") return "";
  const legend =
    '<div class="key"><span><i style="background:var(--live)"></i>sent</span>' +
    '<span><i style="background:var(--still)"></i>changed since, to be sent again</span></div>';
  return section("What was sent", chart + legend);
}

/** The page of a report. */
export function renderPage(report: Report): string {
  const { device, side, peer, address, outcome, notes, startedMs } = report;
  const way = `${side === "source" ? "to" : "from"} ${peer}, ${address}`;
  const verdict = `${plain(verdictText(report))}`;
  const sentence = `${outcome?.sentence ?? "It goes on."} ${stateText(report)}`.trim();
  const cards = figures(report).map(
    ([name, value]) => `<div class="figure"><dt>${name}</dt><dd>${value}</dd></div>`,
  );
  const began = new Date(startedMs).toISOString().replace("T", " ").replace(/\..*/, " UTC");
  const list = notes.map((note) => `<li>${plain(note)}</li>`).join("");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${plain(`${device}: ${verdictText(report)}`)}</title>
<style>${style}</style>
</head>
<body>
<main>
<header><h1>${plain(device)}</h1><span class="way">${plain(way)}</span>
<span class="verdict ${outcome?.outcome ?? ""}">${verdict}</span></header>
<p class="sentence">${plain(sentence)}</p>
<dl class="figures">${cards.join("")}</dl>
${section("The whole migration", timeline(report, 0, "the whole migration") + key(report))}
${standstill(report)}
${progress(report)}
${section("Notes", list === "" ? "" : `<ul>${list}</ul>`)}
<footer>Began ${began}, told by the ${side}.</footer>
</main>
</body>
</html>
`;
}
