import { basename, join, resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";
import { listenersMax } from "../host/acceptor.ts";
import { controlPathOf } from "../host/control-line.ts";
import { ControlSocket } from "../host/control-socket.ts";
import { collectFrugally } from "../host/garbage.ts";
import { type Berth, Host } from "../host/host.ts";
import { formatAddress } from "../host/links/address.ts";
import { type FarDevice, serveFar } from "../host/links/far.ts";
import type { Listener } from "../host/links/listener.ts";
import type { DeviceSpec } from "../host/mail.ts";
import { Migrations } from "../host/migrations.ts";
import { tellManager } from "../host/service-manager.ts";
import { exitProcess } from "../sys/libc.ts";
import { parseCount } from "./arguments.ts";
import { builtIn, numbered, specOf } from "./device-spec.ts";
import { type Log, makeLog } from "./log.ts";
import { placesOf } from "./places.ts";
import { type Methods, serveMethods, tellOf } from "./serve-methods.ts";
import { Succeeding } from "./succeeding.ts";

const descriptorMax = 2 ** 31 - 1;

/** What serves a device, here or as a relay. */
export interface ServeOptions {
  readonly socketPath?: string;
  readonly fd?: number;
  readonly count: number;
  readonly set: Readonly<Record<string, string>>;
  readonly driver?: string;
  readonly control?: string | boolean;
  readonly journal?: string | undefined;
  readonly takeOver?: string;
  readonly remote?: string;
  readonly pki?: string;
  readonly peer?: string;
  readonly json?: boolean;
}

/** A process that serves. */
export interface Serving {
  readonly log: Log;
  /** Done as soon as no client has a device. */
  free(): Promise<void>;
  /** Ends it in order. */
  end(exitCode: number): void;
}

const example = `
Examples:
  $ ferry serve hello --socket-path /tmp/hello.sock
  $ ferry serve bench --socket-path /tmp/bench-{n}.sock --count 4 --set stateMiB=64
  $ ferry serve ./my-device.js --socket-path /run/my-device.sock --driver my-driver
  $ ferry serve hisi-zip --socket-path /run/zip.sock --remote tls://0.0.0.0:7200 --pki P --peer A
  $ ferry serve --take-over /tmp/hello.sock.ctl      (a successor, the clients stay connected)

A device is a built-in name (${builtIn.join(", ")}) or a module that exports create(options).
A socket can also be inherited: --fd N, or LISTEN_FDS from a service manager.
SIGTERM and SIGINT end the server; its clients are sent away and its socket file is removed.`;

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
    .option("--fd <number>", "use this inherited socket, listening or connected", (text) =>
      parseCount(text, "--fd", descriptorMax),
    )
    .option(
      "--count <number>",
      "serve this many devices in one process",
      (text) => parseCount(text, "--count", listenersMax),
      1,
    )
    .option("--set <name=value>", "a device option, {n} likewise; may be repeated", keyValue, {})
    .option("--driver <name>", "migrate it by this driver: a name, a package or a module's path")
    .option("--control <path>", "control socket (default: the socket path with .ctl)")
    .option("--no-control", "no control socket")
    .option("--journal <folder>", "where migrations write their decisions (default: there too)")
    .option("--take-over <control>", "succeed the process behind this control socket")
    .option("--remote <address>", "serve it to ferry relay on another host too: tls://HOST:PORT")
    .option("--pki <folder>", "for --remote: this host's certificate, as ferry pki makes it")
    .option("--peer <name>", "for --remote: the host that may have it, by its certificate")
    .option("--json", "log JSON lines")
    .addHelpText("after", example)
    .action(async (device: string | undefined, options: ServeOptions) => {
      await serve(device, options);
    });
}

/** Serves a device of this host's or, as a relay, one of another's. */
export async function serve(
  device: string | undefined,
  options: ServeOptions,
  far: FarDevice | null = null,
): Promise<Serving> {
  if (far === null) checkRemote(options);
  const log = makeLog(options.json === true);
  let freed: () => void = () => {};
  collectFrugally();
  const host = new Host({
    claimed: (name) => log.info({ device: name }, "client connected"),
    released: (name) => {
      log.info({ device: name }, "client gone");
      freed();
    },
    fatal: (message, error) => log.fatal({ err: error }, message),
  });
  host.installFatal();
  const succeeding = options.takeOver === undefined ? null : new Succeeding(host, options.takeOver);
  let migrations: Migrations | null = null;
  let end: Serving["end"] = () => {};
  try {
    const journal = options.journal ?? (await succeeding?.journal());
    migrations = makeMigrations({ ...options, journal }, log);
    if (succeeding !== null) await succeeding.takeOver(migrations, log);
    else await serveDevices(host, far?.spec ?? specOf(device, options), options, migrations);
    const listener = await remoteListener(host, options, log);
    const path = controlPath(host, options);
    const stays = far === null && options.remote === undefined ? null : staysHere;
    const served = { host, migrations, log, succeeding, options, stays };
    const methods = serveMethods(path ?? "", served);
    const control = path === null ? null : await openControl(path, methods, succeeding, log);
    for (const { device: served, socketPath } of host.berths) {
      log.info({ device: served.spec.name, socket: socketPath ?? "inherited" }, "serving");
    }
    end = endOnSignals(host, [control, listener], migrations, log);
  } catch (thrown) {
    succeeding?.fail(thrown);
    await host.stop();
    throw thrown;
  }
  const names = host.berths.map(({ device: { spec } }) => spec.name).join(", ");
  tellManager("READY=1", `STATUS=serving ${names}`);
  succeeding?.done();
  const free = async (): Promise<void> => {
    while (host.berths.some((berth) => berth.device.claimed)) {
      await new Promise<void>((resolve) => {
        freed = resolve;
      });
    }
  };
  return { log, free, end };
}

const staysHere =
  "it is tied to another host by a link that no other process can take over: start it anew.";

/** Another host is let in by its name, and by nothing less. */
function checkRemote({ remote, pki, peer }: ServeOptions): void {
  const named = [pki, peer].filter((each) => each !== undefined).length;
  if (remote !== undefined && named < 2) {
    throw new FerryError("usage", "--remote needs --pki FOLDER and --peer NAME.");
  }
  if (remote === undefined && named > 0) {
    throw new FerryError("usage", "--pki and --peer are for --remote: say where to listen.");
  }
}

/** Listens for the named host, if the device is to be served to one. */
async function remoteListener(
  host: Host,
  { remote, pki, peer, takeOver }: ServeOptions,
  log: Log,
): Promise<Listener | null> {
  if (remote === undefined || pki === undefined || peer === undefined) return null;
  const [berth, ...more] = host.berths;
  if (berth === undefined || more.length > 0 || takeOver !== undefined) {
    throw new FerryError("usage", "--remote serves one device of a process that it starts with.");
  }
  const refused = (name: string): void => log.warn({ peer: name }, "refused: not the named host");
  const listener = await serveFar(host, berth.device, { address: remote, pki, peer }, refused);
  log.info({ remote: formatAddress(listener.address), peer }, "serving to another host");
  return listener;
}

/** A successor has its devices already: it serves them, whatever becomes of its control socket. */
async function openControl(
  path: string,
  methods: Methods,
  succeeding: Succeeding | null,
  log: Log,
): Promise<ControlSocket | null> {
  try {
    return await ControlSocket.listen(path, methods);
  } catch (thrown) {
    if (succeeding === null) throw thrown;
    log.error(`there is no control socket: ${messageOf(thrown)}`);
    return null;
  }
}

/** Journals lie beside the device's socket, or its control socket, unless a folder is named. */
function makeMigrations({ journal, control, takeOver: succeeded }: ServeOptions, log: Log) {
  const pathOf = ({ socketPath }: Berth, index: number): string => {
    const other = typeof control === "string" ? control : (succeeded ?? "ferry");
    const beside = socketPath ?? `${other}.${index}`;
    return journal === undefined
      ? `${beside}.journal`
      : join(resolve(journal), `${basename(beside)}.journal`);
  };
  return new Migrations(pathOf, tellOf(log, "migration"));
}

async function serveDevices(
  host: Host,
  spec: DeviceSpec,
  options: ServeOptions,
  migrations: Migrations,
): Promise<void> {
  const places = placesOf(options);
  // Without a control socket nothing can be migrated, and nothing is to be remembered.
  const before = hasControl(options) ? (berth: Berth) => migrations.add(berth) : undefined;
  for (const [n, place] of places.entries()) {
    await host.add(numbered(spec, n), place, before);
  }
}

const hasControl = ({ control, socketPath }: ServeOptions): boolean =>
  typeof control === "string" || (control !== false && socketPath !== undefined);

function controlPath(host: Host, { control, takeOver: succeeded }: ServeOptions): string | null {
  if (control === false) return null;
  if (typeof control === "string") return control;
  const first = host.berths[0]?.socketPath ?? null;
  return succeeded ?? (first === null ? null : controlPathOf(first));
}

function endOnSignals(
  host: Host,
  doors: ReadonlyArray<{ close(): void } | null>,
  migrations: Migrations | null,
  log: Log,
): (exitCode: number) => void {
  let ending = false;
  const end = (exitCode: number): void => {
    if (ending) exitProcess(1);
    ending = true;
    tellManager("STOPPING=1");
    for (const door of doors) door?.close();
    const closed = migrations?.close() ?? Promise.resolve();
    closed
      .then(() => host.stop())
      .then(
        () => exitProcess(exitCode),
        (error: unknown) => {
          log.fatal(`could not end in order: ${messageOf(error)}`);
          exitProcess(1);
        },
      );
  };
  const endOn = (signal: NodeJS.Signals): void => {
    log.info({ signal }, "ending");
    end(0);
  };
  process.on("SIGTERM", endOn);
  process.on("SIGINT", endOn);
  return end;
}
