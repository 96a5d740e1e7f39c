import { resolve } from "node:path";
import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { Announcements } from "../host/announcements.ts";
import { hostClock } from "../host/host-clock.ts";
import type { MigrationEvent, TimedEvent } from "../migration/hosts/events.ts";
import type { Around } from "../migration/hosts/phases.ts";
import { Recorder } from "../migration/hosts/report.ts";
import type { DeviceWay } from "../vm/device-move.ts";
import { DeviceServer } from "../vm/device-server.ts";
import { homeOf, meetingAt, sameUser } from "../vm/meeting.ts";
import { Qemu } from "../vm/qemu.ts";
import { VmDevice } from "../vm/vm-device.ts";
import { type VmEnd, VmMove } from "../vm/vm-move.ts";
import { drawn, renderVmReport, type VmReport } from "../vm/vm-report.ts";
import { absoluteLink, absolutePath, another, parseCount, verb } from "./arguments.ts";
import { expectPage, writePage } from "./files.ts";
import { eventLine } from "./migrate-progress.ts";
import { ExitCode, print, printJson } from "./output.ts";
import { addDoctor } from "./vm-doctor.ts";

interface VmOptions {
  readonly qmp: string;
  readonly toQmp: string;
  readonly server?: string;
  readonly toServer?: string;
  readonly device?: readonly string[];
  readonly memory?: string;
  readonly link?: readonly string[];
  readonly home?: readonly string[];
  readonly from?: string;
  readonly peer?: string;
  readonly pki?: string;
  readonly toPki?: string;
  readonly within: number;
  readonly report?: string;
  readonly json?: boolean;
}

const defaultWithinSeconds = 1800;

/** A terminal that closes says SIGHUP: a VM must not be left between two QEMUs for that. */
const interruptions = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Where QEMU meets QEMU: not a way that would run a program or end in a file. */
function memoryAddress(text: string): string {
  if (/^(unix:\/|tcp:).+/.test(text)) return text;
  throw new FerryError("bad-argument", `--memory ${text} is no unix:/PATH and no tcp:HOST:PORT.`);
}

/** A device and where its two servers are. */
interface Named {
  readonly id: string | null;
  readonly from: string;
  readonly to: string;
}

type Way = Pick<DeviceWay, "link" | "home">;

/** Which devices move: the only one, or all that are named with their servers. */
function namedDevices({ server: from, toServer: to, device: texts = [] }: VmOptions): Named[] {
  if (from !== undefined && to !== undefined && texts.length < 2) {
    const [id = null] = texts;
    if (id === null || !id.includes("=")) return [{ id, from, to }];
  } else if (from === undefined && to === undefined && texts.length > 0) return texts.map(named);
  throw new FerryError(
    "usage",
    "name the servers: --server and --to-server of the only device, or --device of each.",
  );
}

function named(text: string): Named {
  const [, id, from, to] = /^([^=]+)=([^,]+),([^,]+)$/.exec(text) ?? [];
  if (id !== undefined && from !== undefined && to !== undefined) return { id, from, to };
  throw new FerryError("bad-argument", `--device ${text} is no ID=FROM.sock,TO.sock.`);
}

const openDevice = ({ id, from, to }: Named, way: Way): VmDevice =>
  new VmDevice(id, new DeviceServer(from), new DeviceServer(to), way);

const linkOf = (server: string): string => `unix:${server}.mig`;

async function migrate(options: VmOptions, around?: Around): Promise<void> {
  const { json } = options;
  const wanted = namedDevices(options);
  const [{ to: first = "" } = {}] = wanted;
  const memory = memoryAddress(options.memory ?? `unix:${resolve(first)}.vm`);
  const ways = waysOf(wanted, memory, options);
  expectPage(options.report);
  const from = await Qemu.connect(options.qmp);
  const to = await Qemu.connect(options.toQmp).catch((thrown: unknown) => {
    from.close();
    throw thrown;
  });
  const devices = wanted.map((each, index) => openDevice(each, ways[index] as Way));
  const journey = { device: "VM", side: "source", peer: to.path, address: memory } as const;
  const recorder = new Recorder(hostClock, journey);
  const say = (event: TimedEvent): void => {
    const line = json === true ? null : eventLine(event);
    if (json === true) printJson({ event });
    else if (line !== null) print(line);
  };
  // Most of it happens while no vCPU runs, and a reader that is slow must not make that longer.
  const announcements = Announcements.toLog(say);
  const tell = (event: MigrationEvent): void => announcements.tell(recorder.note(event));
  const how = { devices, memory, precopyMs: options.within * 1000 };
  const move = new VmMove(from, to, how, tell, around);
  const end = (): void => move.abort("it was interrupted.");
  for (const signal of interruptions) process.on(signal, end);
  try {
    const last = await move.migrate().finally(() => announcements.flush());
    finish(move, recorder, last, options);
  } finally {
    for (const signal of interruptions) process.off(signal, end);
    for (const { from, to } of devices) for (const server of [from, to]) server.close();
    for (const qemu of [from, to]) qemu.close();
  }
}

function finish(
  { blackoutMs }: VmMove,
  recorder: Recorder,
  end: VmEnd,
  { json, report: page }: VmOptions,
): void {
  const told = recorder.report(0);
  const { phases, notes, elapsedMs } = told;
  const report: VmReport = { ...end, elapsedMs, blackoutMs, phases, notes };
  if (json === true) printJson(report);
  else print(renderVmReport(report));
  writePage(page, drawn(told, report));
  if (end.outcome !== "moved" || end.trouble !== "") process.exitCode = ExitCode.failed;
}

/** Each pair of servers meets for itself, and meets again should its device come back. */
function waysOf(wanted: readonly Named[], memory: string, options: VmOptions): Way[] {
  const { link: links = [], home: homes = [], from, peer, pki, toPki } = options;
  const hosts = { from, peer, pki: absolutePath(pki), toPki: absolutePath(toPki) };
  if (links.length > 0) expectOneEach("--link", links, wanted);
  // One device alone never comes back once it has gone: it decides for the VM.
  const mayComeBack = links.length > 1 && links.some((link) => link.startsWith("tls:"));
  if (mayComeBack || homes.length > 0) expectOneEach("--home", homes, wanted);
  return wanted.map(({ from: source, to }, index) => {
    const link = meetingAt(absoluteLink(links[index] ?? linkOf(to)), memory, hosts);
    const here = homes[index];
    if (here !== undefined) return { link, home: homeOf(link, absoluteLink(here)) };
    return { link, home: { address: absoluteLink(linkOf(source)), from: sameUser } };
  });
}

/** They go at once, and come back at once; a port that is not chosen is another one each time. */
function expectOneEach(option: string, said: readonly string[], wanted: readonly Named[]): void {
  const chosen = said.filter((address) => !address.endsWith(":0"));
  if (said.length === wanted.length && new Set(chosen).size === chosen.length) return;
  throw new FerryError("usage", `say another ${option} once for each device, in their order.`);
}

const seconds = (text: string): number => parseCount(text, "--within", 86_400);

/** `ferry vm` and what belongs to it; `around` is for tests: what happens around phases. */
export function addVm(program: Command, around?: Around): void {
  const vm = program.command("vm").description("move a running VM together with its devices");
  const usage = "migrate";
  verb(vm, usage, "move a VM from one QEMU to another one, with its devices", [
    "vm migrate --qmp /run/a.qmp --server /run/a.sock --to-qmp /run/b.qmp --to-server /run/b.sock",
    "vm migrate --qmp /run/a.qmp --to-qmp /run/b.qmp " +
      "--device acc0=/run/a0.sock,/run/b0.sock --device acc1=/run/a1.sock,/run/b1.sock",
    "vm migrate --qmp /run/a.qmp --server /run/a.ctl --to-qmp /run/b.qmp --to-server /run/b.sock " +
      "--link tls://bob:7100 --from alice --pki /etc/ferry --to-pki /etc/ferry " +
      "--memory tcp:bob:7101",
  ])
    .requiredOption("--qmp <path>", "the monitor of the QEMU that has the VM")
    .requiredOption("--to-qmp <path>", "the monitor of a QEMU that waits: -incoming defer -S")
    .option("--server <path>", "the socket of the server of its only device")
    .option("--to-server <path>", "the socket of the server of that one's device")
    .option(
      "--device <id=from,to>",
      "of several devices each: its id in QEMU, its servers",
      another,
    )
    .option("--memory <address>", "unix:/PATH or tcp:HOST:PORT, where the QEMUs meet")
    .option(
      "--link <address>",
      "unix:PATH or tls://HOST:PORT, where the servers of each device meet",
      another,
    )
    .option(
      "--home <address>",
      "of several devices each: tls://HOST:PORT of the source, where it may come back",
      another,
    )
    .option("--from <name>", "over TLS: the host that has the VM, by its certificate")
    .option("--peer <name>", "over TLS: the target's name, if not the host of the link's address")
    .option("--pki <folder>", "over TLS: the source's certificate, on its host")
    .option("--to-pki <folder>", "over TLS: the target's certificate, on its host")
    .option("--report <file>", "write a page on how it went")
    .option("--within <seconds>", "for memory, while the VM runs", seconds, defaultWithinSeconds)
    .action((options: VmOptions) => migrate(options, around));
  addDoctor(vm);
}
