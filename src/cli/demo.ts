import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { renderPage } from "../migration/hosts/report-page.ts";
import { parseCount, verb } from "./arguments.ts";
import type { DeviceMove } from "./demo/messages.ts";
import { Story, type Sum } from "./demo/story.ts";
import { ExitCode, print, printJson } from "./output.ts";

/** How often the guest moves. */
const movesDefault = 5;
const movesMax = 10_000;
const phases = ["precheck", "freeze", "save", "transfer", "hand over"] as const;

const ms = (value: number): string => value.toFixed(value < 10 ? 1 : 0);

/** One line of the table a device and move. */
function row(number: number, way: string, { device, report, ...move }: DeviceMove): string {
  const times = phases.map((phase) => {
    const found = report.phases.find((each) => each.phase === phase);
    return (found === undefined ? "" : ms(found.elapsedMs)).padStart(phase.length);
  });
  return [
    String(number).padStart(3),
    way.padEnd(13),
    device.padEnd(10),
    ...times,
    ms(move.blackoutMs).padStart(11),
    String(move.underWay).padStart(9),
  ].join("  ");
}

const header = [
  "  #",
  "way".padEnd(13),
  "device".padEnd(10),
  ...phases,
  "blackout ms",
  "under way",
].join("  ");

const explanation = `
What of it is simulated: the accelerators are software models; the guest is a process that plays a
VM and its VMM, and copies its own memory; both hosts are on this machine, joined by TLS over
loopback. What is not: the migration. The daemons share no memory, no descriptor and no object.`;

function conclude(sum: Sum): string[] {
  const { operations, lost, wrong, twice, attacks } = sum;
  const counted = `operations ${operations}, lost ${lost}, wrong ${wrong}, run twice ${twice}`;
  const lines = [`${counted}, attacks refused ${attacks.refused}`];
  if (sum.firstError !== "") lines.push(`first error: ${sum.firstError}`);
  if (attacks.succeeded.length > 0) lines.push(`NOT refused: ${attacks.succeeded.join(", ")}`);
  return lines;
}

const isGood = ({ operations, lost, wrong, twice, attacks }: Sum): boolean =>
  operations > 0 && lost === 0 && wrong === 0 && twice === 0 && attacks.tried === attacks.refused;

async function tell(story: Story, moves: number, asJson: boolean): Promise<ExitCode> {
  const say = (line: string): void => void (asJson || print(line));
  for (const { plan, daemons } of story.hosts) {
    const list = daemons.map(({ device, pid }) => `${device} (process ${pid})`);
    say(`  host ${plan.name.padEnd(6)} ${list.join(", ")}`);
  }
  const devices = await story.boot();
  say(`  guest       process ${story.guest.pid}, with ${devices.join(" and ")} at work`);
  say(`  neighbour   process ${story.attacker.pid}, with VFs in the same daemons, hostile\n`);
  say(header);
  const all: DeviceMove[][] = [];
  for (let i = 0; i < moves; i++) {
    const [from, to] = [i % 2, (i + 1) % 2];
    const moved = [...(await story.move(from, to))];
    const way = [from, to].map((host) => story.hosts[host]?.plan.name).join(" → ");
    for (const move of moved) say(row(i + 1, way, move));
    all.push(moved);
  }
  const sum = await story.end();
  const good = isGood(sum);
  const last = all.at(-1)?.[0]?.report;
  const page = last === undefined ? null : join(tmpdir(), `ferry-demo-${process.pid}.html`);
  if (last !== undefined && page !== null) writeFileSync(page, renderPage(last));
  if (asJson) printJson({ ok: good, ...sum, page, moves: all });
  else for (const line of ["", ...conclude(sum), explanation]) print(line);
  if (page !== null) say(`\nThe last move, drawn: ${page}`);
  return good ? ExitCode.ok : ExitCode.failed;
}

async function demo(moves: number, asJson: boolean): Promise<ExitCode> {
  const folder = mkdtempSync(join(tmpdir(), "ferry-demo-"));
  if (!asJson) print("vfio-ferry: a guest moves between two hosts with its accelerators at work\n");
  let story: Story | null = null;
  try {
    story = await Story.begin(folder);
    return await tell(story, moves, asJson);
  } finally {
    await story?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `ferry demo`: the main job, to be seen. */
export function addDemo(program: Command): void {
  const summary = "move a guest's accelerators between two hosts, under attack";
  const moves = (text: string): number => parseCount(text, "--moves", movesMax);
  verb(program, "demo", summary, ["demo", "demo --moves 100 --json"])
    .option("--moves <n>", "how often the guest moves", moves, movesDefault)
    .action(async (options: { readonly moves: number; readonly json?: boolean }) => {
      process.exitCode = await demo(options.moves, options.json === true);
    });
}
