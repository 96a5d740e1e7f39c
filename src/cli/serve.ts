import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Command, InvalidArgumentError } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";
import { ControlSocket } from "../host/control-socket.ts";
import { Host, type Place } from "../host/host.ts";
import type { DeviceSpec } from "../host/mail.ts";
import { handOver, takeOver } from "../host/succession.ts";
import { exitProcess } from "../sys/libc.ts";
import { isListening, isSocket } from "../sys/unix.ts";
import { inheritedFds } from "./listen-fds.ts";
import { type Log, makeLog } from "./log.ts";

/** The devices that come with the project. */
const builtIn = ["hello", "bench", "hisi-sec2", "hisi-zip", "hisi-hpre"] as const;

interface ServeOptions {
  readonly socketPath?: string;
  readonly fd?: number;
  readonly count: number;
  readonly set: Readonly<Record<string, string>>;
  readonly control?: string | boolean;
  readonly takeOver?: string;
  readonly json?: boolean;
}

const example = `
Examples:
  $ ferry serve hello --socket-path /tmp/hello.sock
  $ ferry serve bench --socket-path /tmp/bench-{n}.sock --count 4 --set stateMiB=64
  $ ferry serve ./my-device.js --socket-path /run/my-device.sock
  $ ferry serve --take-over /tmp/hello.sock.ctl      (a successor, the clients stay connected)

A device is a built-in name (${builtIn.join(", ")}) or a module that exports create(options).
A socket can also be inherited: --fd N, or LISTEN_FDS from a service manager.
SIGTERM and SIGINT end the server; its clients are sent away and its socket file is removed.`;

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError("not a whole number.");
  return value;
}

function keyValue(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("write it as NAME=VALUE.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** `ferry serve`. */
export function addServe(program: Command): void {
  program
    .command("serve")
    .description("serve a device to VMMs over vfio-user")
    .argument("[device]", "a built-in device or a module's path")
    .option("--socket-path <path>", "listen here; {n} is the number of the device")
    .option("--fd <number>", "use this inherited socket, listening or connected", count)
    .option("--count <number>", "serve this many devices in one process", count, 1)
    .option("--set <name=value>", "an option of the device; may be repeated", keyValue, {})
    .option("--control <path>", "control socket (default: the socket path with .ctl)")
    .option("--no-control", "no control socket")
    .option("--take-over <control>", "succeed the process behind this control socket")
    .option("--json", "log JSON lines")
    .addHelpText("after", example)
    .action(serve);
}

async function serve(device: string | undefined, options: ServeOptions): Promise<void> {
  const log = makeLog(options.json === true);
  const host = new Host({
    claimed: (name) => log.info({ device: name }, "client connected"),
    released: (name) => log.info({ device: name }, "client gone"),
    fatal: (message, error) => log.fatal({ err: error }, message),
  });
  host.installFatal();
  try {
    if (options.takeOver !== undefined) await takeOver(host, options.takeOver);
    else await serveDevices(host, device, options);
  } catch (thrown) {
    await host.stop();
    throw thrown;
  }
  const control = await openControl(host, options, log);
  for (const berth of host.berths) {
    log.info(
      { device: berth.device.spec.name, socket: berth.socketPath ?? "inherited" },
      "serving",
    );
  }
  endOnSignals(host, control, log);
}

async function serveDevices(
  host: Host,
  device: string | undefined,
  options: ServeOptions,
): Promise<void> {
  if (device === undefined) {
    throw new FerryError("usage", `name a device to serve: ${builtIn.join(", ")} or a module.`);
  }
  const spec = deviceSpec(device, options.set);
  const places = await placesOf(options);
  for (const place of places) await host.add(spec, place);
}

function deviceSpec(device: string, options: Readonly<Record<string, string>>): DeviceSpec {
  if (builtIn.some((name) => name === device)) {
    return { name: device, module: `vfio-ferry/devices/${device}`, options };
  }
  const path = resolve(device);
  if (!existsSync(path)) {
    const known = builtIn.join(", ");
    throw new FerryError(
      "no-device",
      `no device ${device}: it is neither one of ${known} nor a file.`,
    );
  }
  return { name: device, module: pathToFileURL(path).href, options };
}

/** One place a device. */
async function placesOf(options: ServeOptions): Promise<Place[]> {
  const { socketPath, fd } = options;
  if (socketPath !== undefined) {
    if (options.count > 1 && !socketPath.includes("{n}")) {
      throw new FerryError(
        "usage",
        "with --count, --socket-path needs {n} for the device's number.",
      );
    }
    const numbers = Array.from({ length: options.count }, (_, i) => String(i));
    return numbers.map((n) => ({ socketPath: socketPath.replaceAll("{n}", n) }));
  }
  const fds = fd === undefined ? inheritedFds(process.env, process.pid) : [fd];
  if (fds.length === 0) {
    throw new FerryError("usage", "say where to listen: --socket-path PATH, --fd N or LISTEN_FDS.");
  }
  return fds.map(placeOfFd);
}

function placeOfFd(fd: number): Place {
  if (!isSocket(fd)) throw new FerryError("no-socket", `descriptor ${fd} is not a socket.`);
  return isListening(fd) ? { listenFd: fd } : { connectedFd: fd };
}

/** `probe` tells of the devices; `manifest` and `hand-over` are for a successor. */
async function openControl(
  host: Host,
  options: ServeOptions,
  log: Log,
): Promise<ControlSocket | null> {
  const path = controlPath(host, options);
  if (path === null) return null;
  return await ControlSocket.listen(path, {
    probe: async ({ device }) => {
      const wanted = host.berths.filter(
        ({ socketPath }) => device === undefined || socketPath === device,
      );
      return { devices: await Promise.all(wanted.map((berth) => berth.device.report())) };
    },
    manifest: async () => ({ devices: host.berths.map(({ device }) => device.spec) }),
    "hand-over": async ({ to }) => {
      if (!(await handOver(host, String(to)))) return { handedOver: false };
      log.info("handed over to a successor");
      return exitProcess(0);
    },
  });
}

function controlPath(host: Host, { control, takeOver: succeeded }: ServeOptions): string | null {
  if (control === false) return null;
  if (typeof control === "string") return control;
  const first = host.berths[0]?.socketPath ?? null;
  return succeeded ?? (first === null ? null : `${first}.ctl`);
}

function endOnSignals(host: Host, control: ControlSocket | null, log: Log): void {
  let ending = false;
  const end = (signal: NodeJS.Signals): void => {
    if (ending) exitProcess(1);
    ending = true;
    log.info({ signal }, "ending");
    control?.close();
    host.stop().then(
      () => exitProcess(0),
      (error: unknown) => {
        log.fatal(`could not end in order: ${messageOf(error)}`);
        exitProcess(1);
      },
    );
  };
  process.on("SIGTERM", end);
  process.on("SIGINT", end);
}
