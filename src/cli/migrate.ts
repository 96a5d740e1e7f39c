import { Command, Option } from "commander";
import { FerryError } from "../base/errors.ts";
import { askControl, controlOf } from "../host/control-line.ts";
import type { TimedEvent } from "../migration/hosts/events.ts";
import { pausePoints } from "../migration/hosts/pause.ts";
import type { Report } from "../migration/hosts/report.ts";
import { renderText } from "../migration/hosts/report-text.ts";
import { absoluteLink, absolutePath, parseCount, verb } from "./arguments.ts";
import { expectPage, writePage } from "./files.ts";
import { eventLine } from "./migrate-progress.ts";
import { ExitCode, print, printJson } from "./output.ts";

interface Output {
  readonly json?: boolean;
  readonly report?: string;
}

async function ask(
  path: string,
  method: string,
  request: object = {},
  hear?: (event: unknown) => void,
): Promise<unknown> {
  const { control, device } = controlOf(path);
  return await askControl(control, { ...request, device, method }, { hear });
}

/** Takes part in a migration to its end, and says how it ended. */
async function follow(
  path: string,
  method: "migrate" | "migrate-load",
  request: object,
  { json, report: page }: Output,
): Promise<void> {
  const hear = (event: unknown): void => {
    if (json === true) return void printJson({ event });
    const line = eventLine(event as TimedEvent);
    if (line !== null) print(line);
  };
  expectPage(page);
  const done = (await ask(path, method, request, hear)) as { outcome: string; report: Report };
  if (json === true) printJson(done);
  else print(renderText(done.report));
  if (done.outcome !== "moved") process.exitCode = ExitCode.failed;
  writePage(page, done.report);
}

/** Asks for something short. */
async function tell(path: string, method: string, request: object, json?: boolean): Promise<void> {
  const answer = await ask(path, method, request);
  if (json === true) printJson(answer);
}

const scales = { "": 1, k: 1e3, M: 1e6, G: 1e9 } as const;

/** Bytes a second: `100M`. */
function parseBandwidth(text: string): number {
  const [, digits, unit] = /^(\d{1,9})([kMG]?)$/.exec(text) ?? [];
  if (digits !== undefined) return Number(digits) * scales[unit as keyof typeof scales];
  throw new FerryError("bad-argument", `--bandwidth ${text} is no speed: write 800M or 1G.`);
}

function parsePauses(text: string): readonly string[] {
  const points = text.split(",");
  const wrong = points.find((point) => !pausePoints.some((each) => each === point));
  if (wrong === undefined) return points;
  throw new FerryError(
    "bad-argument",
    `--pause-before ${wrong}: there are ${pausePoints.join(", ")}.`,
  );
}

const count = (name: string) => (text: string) => parseCount(text, name);
const pkiOption = ["--pki <folder>", "this host's certificate, as ferry pki makes it"] as const;
const to = ["--to <address>", "tls://HOST:PORT, unix:PATH or file:PATH"] as const;
const tokenOption = ["--token <token>", "what the target's offer has printed"] as const;
const peer = ["--peer <name>", "the target's name, if it is not the host of the address"] as const;
const report = ["--report <file>", "write a page on how it went"] as const;
const meantOption = ["--token <token>", "only this migration: status prints it"] as const;
const waiting = new Option("--wait-for-thaw", "once it is here, leave it standing until thaw");

interface Destination {
  readonly to: string;
  readonly token?: string;
  readonly pki?: string;
  readonly peer?: string;
}

const destination = (options: Destination): Destination => ({
  ...options,
  to: absoluteLink(options.to),
  pki: absolutePath(options.pki) as string,
});

interface MigrateOptions extends Destination, Output {
  readonly downtime?: number;
  readonly rounds?: number;
}

/** What is meant when no other word follows `ferry migrate`. */
function addMove(migrate: Command): void {
  const usage = "move <server>";
  // Made beside its group: commander takes a default one only when it is added.
  const move = verb(
    new Command(),
    usage,
    "move a device to another host or into a file; `move` may be left out",
    [
      "migrate /run/sec2.sock --to tls://bob:7100 --token T --pki /etc/ferry/alice",
      "migrate /run/sec2.sock --to tls://bob:7100 --token T --pki P --pause-before freeze",
      "migrate /run/sec2.sock --to file:/var/lib/ferry/sec2.state",
    ],
  )
    .requiredOption(...to)
    .option(...tokenOption)
    .option(...pkiOption)
    .option(...peer)
    .option("--pause-before <phases>", "wait for continue: freeze,transfer,hand over", parsePauses)
    .option("--vcpus-stopped", "the VMM's vCPUs stand still already")
    .option("--no-precopy", "send everything while the device stands still")
    .option("--bandwidth <rate>", "bytes a second while the guest runs: 800M", parseBandwidth)
    .option("--downtime <ms>", "stop when what is left takes no longer", count("--downtime"))
    .option("--rounds <n>", "stop after so many rounds", count("--rounds"))
    .addOption(
      new Option("--on-limit <what>", "when it does not converge").choices(["stop", "abort"]),
    )
    .option(...report)
    .action(async (path: string, options: MigrateOptions) => {
      const { downtime: downtimeMs, rounds: roundsMax } = options;
      const request = { ...options, ...destination(options), downtimeMs, roundsMax };
      await follow(path, "migrate", request, options);
    });
  migrate.addCommand(move.copyInheritedSettings(migrate), { isDefault: true });
}

interface Meant {
  readonly token?: string;
}

interface OfferOptions extends Output {
  readonly from: string;
  readonly listen?: string;
  readonly pki?: string;
  readonly lasts?: number;
  readonly waitForThaw?: boolean;
}

const thawOf = ({ waitForThaw }: { readonly waitForThaw?: boolean }): string =>
  waitForThaw === true ? "when told" : "at once";

async function offer(path: string, options: OfferOptions): Promise<void> {
  const { from, listen = `unix:${path}.mig`, pki, lasts, json } = options;
  const lastsMs = lasts === undefined ? undefined : lasts * 1000;
  const request = { from, listen: absoluteLink(listen), pki: absolutePath(pki), lastsMs };
  const answer = await ask(path, "migrate-offer", { ...request, thaw: thawOf(options) });
  const { address, token } = answer as { address: string; token: string };
  if (json === true) printJson(answer);
  else print(`${token}\n# on ${from}: ferry migrate SOCKET --to ${address} --token ${token}`);
}

function addOffer(migrate: Command): void {
  verb(migrate, "offer <server>", "make a place for a device from another host", [
    "migrate offer /run/sec2.sock --from alice --listen tls://0.0.0.0:7100 --pki /etc/ferry/bob",
    "migrate offer /run/sec2.sock --from local    (a process of this user, over a unix socket)",
  ])
    .requiredOption("--from <name>", "the host that may send it, by its certificate")
    .option("--listen <address>", "tls://HOST:PORT or unix:PATH (default: the socket with .mig)")
    .option(...pkiOption)
    .option("--lasts <seconds>", "how long it stands", count("--lasts"))
    .addOption(waiting)
    .action(offer);
}

function addLoad(migrate: Command): void {
  verb(migrate, "load <server>", "take a device out of a file", [
    "migrate load /run/sec2.sock --from file:/var/lib/ferry/sec2.state",
  ])
    .requiredOption("--from <address>", "file:PATH")
    .addOption(waiting)
    .option(...report)
    .action(async (path: string, options: Output & { from: string; waitForThaw?: boolean }) => {
      const request = { from: absoluteLink(options.from), thaw: thawOf(options) };
      await follow(path, "migrate-load", request, options);
    });
}

function addPrecheck(migrate: Command): void {
  verb(migrate, "precheck <server>", "ask a target whether it would take the device", [
    "migrate precheck /run/sec2.sock --to tls://bob:7100 --token T --pki /etc/ferry/alice",
  ])
    .requiredOption(...to)
    .option(...tokenOption)
    .option(...pkiOption)
    .option(...peer)
    .action(async (path: string, options: Destination & Output) => {
      const answer = await ask(path, "migrate-precheck", destination(options));
      if (options.json === true) printJson(answer);
      else print(`${(answer as { with: string }).with} would take it.`);
    });
}

interface Status {
  readonly device: string;
  readonly port: { readonly master: string; readonly frozen: string; readonly connected: boolean };
  readonly offers: number;
  readonly migration: {
    readonly token: string;
    readonly paused: string | null;
    readonly undecided: boolean;
    readonly waitsForThaw: boolean;
    readonly report: Report;
  } | null;
}

function statusLines({ device, port, offers, migration }: Status): string[] {
  const client = port.connected ? "a client is connected" : "no client is connected";
  const lines = [`${device}: ${client}, frozen: ${port.frozen}, migrated by: ${port.master}`];
  if (offers > 0) lines.push(`${offers} offers stand`);
  if (migration === null) return [...lines, "it has not been migrated"];
  if (migration.paused !== null) lines.push(`paused before ${migration.paused}`);
  if (migration.undecided) {
    lines.push(`undecided: ferry migrate resolve --token ${migration.token} says who has it`);
  }
  if (migration.waitsForThaw) lines.push("loaded, and waits for ferry migrate thaw");
  return [...lines, renderText(migration.report)];
}

const example = `
Examples:
  bob$   ferry migrate offer /run/sec2.sock --from alice --listen tls://0.0.0.0:7100 --pki bob
  alice$ ferry migrate /run/sec2.sock --to tls://bob:7100 --token TOKEN --pki alice`;

/** `ferry migrate` and what belongs to it. */
export function addMigrate(program: Command): void {
  const migrate = program
    .command("migrate")
    .description("move a device to another host, while its guest runs")
    .addHelpText("after", example);
  addMove(migrate);
  addOffer(migrate);
  addLoad(migrate);
  addPrecheck(migrate);
  verb(migrate, "status <server>", "how a migration stands, or went", ["migrate status S"])
    .option(...report)
    .action(async (path: string, { json, report: page }: Output) => {
      const status = (await ask(path, "migrate-status")) as Status;
      const last = status.migration?.report;
      if (json === true) printJson(status);
      else print(statusLines(status).join("\n"));
      if (last !== undefined) writePage(page, last);
    });
  verb(migrate, "abort <server>", "end it; the device stays where it was", [
    "migrate abort /run/sec2.sock",
  ])
    .option(...meantOption)
    .action((path: string, { json, token }: Output & Meant) =>
      tell(path, "migrate-abort", { token }, json),
    );
  verb(migrate, "continue <server>", "go on after a pause: the vCPUs stand still now", [
    "migrate continue /run/sec2.sock",
    'migrate continue /run/sec2.sock --before "hand over"    (before the pause has come)',
  ])
    .addOption(new Option("--before <phase>", "only this pause").choices([...pausePoints]))
    .action((path: string, { before, json }: Output & { readonly before?: string }) =>
      tell(path, "migrate-continue", { before }, json),
    );
  const short = [
    ["thaw", "set a device going that came with --wait-for-thaw"],
    ["reset", "reset a device that nobody migrates, also one in ERROR"],
  ] as const;
  for (const [name, summary] of short) {
    verb(migrate, `${name} <server>`, summary, [`migrate ${name} /run/sec2.sock`]).action(
      (path: string, { json }: Output) => tell(path, `migrate-${name}`, {}, json),
    );
  }
  verb(migrate, "resolve <server>", "say who has a device when the sides cannot meet", [
    "migrate resolve /run/sec2.sock --owner here    (only if it certainly runs nowhere else)",
  ])
    .addOption(
      new Option("--owner <side>", "who has it").choices(["here", "there"]).makeOptionMandatory(),
    )
    .option(...meantOption)
    .action((path: string, { owner, token, json }: Output & Meant & { owner: string }) =>
      tell(path, "migrate-resolve", { owner, token }, json),
    );
}
