import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measure, type Row } from "./client.ts";
import { compile } from "./compile.ts";
import {
  type Column,
  columns,
  type Figure,
  figures,
  type Operation,
  type OperationKey,
  operations,
  type Peers,
} from "./figures.ts";
import { main, OperatorError } from "./operator-error.ts";
import { estimateLibrary, reference } from "./reference.ts";
import {
  allowedCpus,
  requireTaskset,
  type Server,
  socketFolder,
  startServer,
  stopServers,
} from "./servers.ts";
import { judge, type Line, type Pair, renderTable, summarize } from "./table.ts";

const defaultServer = "node dist/cli/main.js serve bench --socket-path {socket} --set stateMiB=64";
const defaultRepetitions = 7;
const quickRepetitions = 3;
const quickDivisor = 4;

const usage = `usage: npm run bench -- [options]
  --peer COMMAND    measure against this server instead of the recorded C library; {socket} in
                    the command becomes the socket's path
  --server COMMAND  our server, if not: ${defaultServer}
  --ops A,B,..      only these: ${Object.keys(operations).join(" ")}
  --reps N          pairs of each (${defaultRepetitions})
  --quick           ${quickRepetitions} short pairs of each
  --json            print an object instead of the table
`;

interface Plan {
  readonly server: string;
  readonly peer: string | undefined;
  readonly keys: readonly OperationKey[];
  readonly repetitions: number;
  readonly divisor: number;
  readonly json: boolean;
}

function parsePlan(): Plan {
  const { values } = parseArgs({
    options: {
      peer: { type: "string" },
      server: { type: "string", default: defaultServer },
      ops: { type: "string" },
      reps: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) throw new OperatorError(usage);
  const all = Object.keys(operations) as OperationKey[];
  const asked = values.ops?.split(",") ?? all;
  for (const name of asked) {
    if (!(name in operations)) throw new OperatorError(`No operation "${name}".\n${usage}`);
  }
  const repetitions = Number(values.reps ?? (values.quick ? quickRepetitions : defaultRepetitions));
  if (!(repetitions >= 1)) throw new OperatorError(`--reps ${values.reps} is not a number.`);
  return {
    server: values.server,
    peer: values.peer,
    keys: all.filter((key) => asked.includes(key)),
    repetitions,
    divisor: values.quick ? quickDivisor : 1,
    json: values.json,
  };
}

/** The two servers, both on one CPU, and where the client runs in each column. */
interface Bench {
  readonly client: string;
  readonly ours: Server;
  readonly peer: Server;
  /** The peer is the yardstick, its figures are carried over to the C library's. */
  readonly estimated: boolean;
  readonly clientCpu: Readonly<Record<Column, number | undefined>>;
}

async function startBench(plan: Plan): Promise<Bench> {
  requireTaskset();
  const client = compile("vubench");
  const peerCommand = plan.peer ?? `${compile("yardstick")} {socket}`;
  const [serverCpu = 0, otherCpu] = allowedCpus();
  const folder = socketFolder();
  const pinned = { cpu: serverCpu };
  return {
    client,
    ours: await startServer(plan.server, join(folder, "ours.sock"), pinned),
    peer: await startServer(peerCommand, join(folder, "peer.sock"), pinned),
    estimated: plan.peer === undefined,
    clientCpu: { one: serverCpu, two: otherCpu },
  };
}

const complaints = new Set<string>();

/** Says why a figure is missing, once. */
function complain(reason: string): void {
  if (!complaints.has(reason)) process.stderr.write(`${reason}\n`);
  complaints.add(reason);
}

/** One run of one operation against one server; a row without figures if it could not be. */
async function runOperation(
  bench: Bench,
  server: Server,
  operation: Operation,
  column: Column,
  divisor: number,
): Promise<Row | undefined> {
  const shorter = divisor * (column === "two" ? operation.wakeupDivisor : 1);
  const count = Math.max(1, Math.round(operation.count / shorter));
  const args = ["--ops", operation.name, "--count", `${count}`, ...operation.args];
  const rows = await measure(bench.client, server, args, bench.clientCpu[column]);
  const row = rows.find(({ op }) => op === operation.row || op === operation.name);
  if (row === undefined || row.status === "ok") return row;
  const side = server === bench.ours ? "ours" : "peer";
  complain(`${side}: ${[operation.name, ...operation.args].join(" ")}: ${row.note}`);
  return undefined;
}

interface RowPair {
  readonly ours: Row | undefined;
  readonly peer: Row | undefined;
}

function asksPeer(bench: Bench, peers: Peers): boolean {
  return peers === "any" || (peers === "devices" && !bench.estimated);
}

/** Both sides, one right after the other; who goes first changes with every pair. */
async function runPair(
  bench: Bench,
  operation: Operation,
  column: Column,
  divisor: number,
  oursFirst: boolean,
): Promise<RowPair> {
  const ours = () => runOperation(bench, bench.ours, operation, column, divisor);
  const peer = async () =>
    asksPeer(bench, operation.peers)
      ? runOperation(bench, bench.peer, operation, column, divisor)
      : undefined;
  if (oursFirst) {
    const first = await ours();
    return { ours: first, peer: await peer() };
  }
  const first = await peer();
  return { ours: await ours(), peer: first };
}

type Measured = Record<Column, Map<OperationKey, RowPair[]>>;

/** Round 0 warms caches and compilers up and is not counted. */
async function measureAll(plan: Plan, bench: Bench): Promise<Measured> {
  const measured: Measured = { one: new Map(), two: new Map() };
  for (let round = 0; round <= plan.repetitions; round++) {
    process.stderr.write(round === 0 ? "warm-up\n" : `pair ${round} of ${plan.repetitions}\n`);
    for (const column of columns) {
      if (bench.clientCpu[column] === undefined) continue;
      for (const key of plan.keys) {
        const pair = await runPair(bench, operations[key], column, plan.divisor, round % 2 === 0);
        if (round === 0) continue;
        const pairs = measured[column].get(key) ?? [];
        measured[column].set(key, [...pairs, pair]);
      }
    }
  }
  return measured;
}

/** The figure's value on either side; the yardstick's is carried over to the C library's. */
function toPairs(figure: Figure, column: Column, pairs: RowPair[], estimated: boolean): Pair[] {
  const value = (row: Row | undefined) => (row === undefined ? undefined : figure.value(row));
  return pairs.map(({ ours, peer }) => ({
    ours: value(ours),
    peer: estimated ? estimateLibrary(figure.key, column, value(peer)) : value(peer),
  }));
}

function toLines(plan: Plan, bench: Bench, measured: Measured): Line[] {
  const summary = (figure: Figure, column: Column) => {
    const pairs = measured[column].get(figure.operation);
    return pairs === undefined
      ? undefined
      : summarize(figure, toPairs(figure, column, pairs, bench.estimated));
  };
  return figures
    .filter(({ operation }) => plan.keys.includes(operation))
    .map((figure) => {
      const [one, two] = [summary(figure, "one"), summary(figure, "two")];
      return { figure, summary: { one, two }, verdict: judge(figure.promised, one) };
    });
}

/** How this machine compares with the one of the record; an absolute figure needs it. */
function calibration(measured: Measured): Record<string, { here: number; recorded: number }> {
  const result: Record<string, { here: number; recorded: number }> = {};
  for (const figure of figures) {
    const recorded = reference[figure.key]?.one?.yardstick;
    const pairs = measured.one.get(figure.operation);
    if (recorded === undefined || pairs === undefined) continue;
    const here = summarize(figure, toPairs(figure, "one", pairs, false)).peer;
    if (here !== undefined) result[figure.key] = { here, recorded };
  }
  return result;
}

function machine(): Record<string, string> {
  const model = cpus()[0]?.model ?? "unknown CPU";
  return { cpu: model, kernel: release(), node: process.version, load: loadAverage() };
}

function loadAverage(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ").slice(0, 3).join(" ");
}

function print(plan: Plan, bench: Bench, measured: Measured, lines: readonly Line[]): void {
  const yardstick = bench.estimated ? calibration(measured) : undefined;
  if (plan.json) {
    const plain = lines.map(({ figure: { key, title, unit, promised }, summary, verdict }) => ({
      key,
      title: title.trim(),
      unit,
      promised,
      ...summary,
      verdict,
    }));
    const all = { machine: machine(), peer: plan.peer ?? "C library", yardstick, figures: plain };
    process.stdout.write(`${JSON.stringify(all, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${Object.values(machine()).join(", ")}\n`);
  process.stdout.write(renderTable(lines, bench.estimated ? "C library" : "peer"));
  if (bench.clientCpu.two === undefined) {
    process.stdout.write("One CPU is allowed here: the two-CPU column is empty.\n");
  }
  const [first] = Object.entries(yardstick ?? {});
  if (first !== undefined) {
    const [key, { here, recorded }] = first;
    process.stdout.write(
      `C library: estimated from the yardstick, which takes ${here.toFixed(2)} here and took ` +
        `${recorded.toFixed(2)} where both were recorded (${key}).\n`,
    );
  }
}

await main(async () => {
  const plan = parsePlan();
  try {
    const bench = await startBench(plan);
    const measured = await measureAll(plan, bench);
    const lines = toLines(plan, bench, measured);
    print(plan, bench, measured, lines);
    return lines.some(({ verdict }) => verdict === "MISSED" || verdict === "no figure") ? 1 : 0;
  } finally {
    await stopServers();
  }
});
