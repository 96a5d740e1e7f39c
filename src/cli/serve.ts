import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Command, InvalidArgumentError } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";
import { listenersMax } from "../host/acceptor.ts";
import { controlPathOf } from "../host/control-line.ts";
import { ControlSocket, type Method } from "../host/control-socket.ts";
import { type Berth, Host, type Place } from "../host/host.ts";
import { formatAddress } from "../host/links/address.ts";
import { type FarDevice, serveFar } from "../host/links/far.ts";
import type { Listener } from "../host/links/listener.ts";
import type { DeviceSpec } from "../host/mail.ts";
import { migrationMethods } from "../host/migration-methods.ts";
import { Migrations, type TellDevice } from "../host/migrations.ts";
import type { ServedDevice } from "../host/served-device.ts";
import { tellManager } from "../host/service-manager.ts";
import { swapMethods } from "../host/swap-methods.ts";
import { exitProcess } from "../sys/libc.ts";
import { isListening, isSocket, setNonBlocking } from "../sys/unix.ts";
import { parseCount } from "./arguments.ts";
import { inheritedFds } from "./listen-fds.ts";
import { type Log, makeLog } from "./log.ts";
import { leave, ownManifest, Succeeding } from "./succeeding.ts";

const descriptorMax = 2 ** 31 - 1;

/** The devices that come with the project. */
const builtIn = ["hello", "bench", "bulk", "hisi-sec2", "hisi-zip", "hisi-hpre"] as const;

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
    .option("--set <name=value>", "an option of the device; may be repeated", keyValue, {})
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
    const methods = controlMethods(path ?? "", served);
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

const tellOf =
  (log: Log, what: string): TellDevice =>
  (device, { kind, atMs: _, ...event }) =>
    log[kind === "progress" ? "debug" : "info"]({ device, ...event }, `${what}: ${kind}`);

function specOf(device: string | undefined, options: ServeOptions): DeviceSpec {
  if (device === undefined) {
    throw new FerryError("usage", `name a device to serve: ${builtIn.join(", ")} or a module.`);
  }
  const driver = options.driver === undefined ? {} : { driver: moduleOf(options.driver) };
  return { ...deviceSpec(device, options.set), ...driver };
}

async function serveDevices(
  host: Host,
  spec: DeviceSpec,
  options: ServeOptions,
  migrations: Migrations,
): Promise<void> {
  const places = await placesOf(options);
  // Without a control socket nothing can be migrated, and nothing is to be remembered.
  const before = hasControl(options) ? (berth: Berth) => migrations.add(berth) : undefined;
  for (const place of places) await host.add(spec, place, before);
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

/** A file is named by its URL, anything else is a name or a package for `import`. */
const moduleOf = (name: string): string =>
  existsSync(resolve(name)) ? pathToFileURL(resolve(name)).href : name;

/** One place a device. */
async function placesOf(options: ServeOptions): Promise<Place[]> {
  const { socketPath, fd, count } = options;
  if (count === 0) throw new FerryError("usage", "--count 0 serves nothing: say 1 or more.");
  if (socketPath !== undefined) {
    if (count > 1 && !socketPath.includes("{n}")) {
      throw new FerryError(
        "usage",
        "with --count, --socket-path needs {n} for the device's number.",
      );
    }
    const numbers = Array.from({ length: count }, (_, i) => String(i));
    return numbers.map((n) => ({ socketPath: resolve(socketPath.replaceAll("{n}", n)) }));
  }
  const fds = fd === undefined ? inheritedFds(process.env, process.pid) : [fd];
  if (fds.length === 0) {
    throw new FerryError("usage", "say where to listen: --socket-path PATH, --fd N or LISTEN_FDS.");
  }
  return fds.map(placeOfFd);
}

function placeOfFd(fd: number): Place {
  if (!isSocket(fd)) throw new FerryError("no-socket", `descriptor ${fd} is not a socket.`);
  if (!isListening(fd)) return { connectedFd: fd };
  // A service manager gives one that blocks: the main thread would wait in accept.
  setNonBlocking(fd, true);
  return { listenFd: fd };
}

interface Served {
  readonly host: Host;
  readonly migrations: Migrations;
  readonly log: Log;
  readonly succeeding: Succeeding | null;
  readonly options: ServeOptions;
  /** Why no successor can have it; null when one can. */
  readonly stays: string | null;
}

type Methods = Readonly<Record<string, Method>>;

/** `probe` and `served` tell of the devices; `manifest` and `hand-over` are for a successor. */
function controlMethods(path: string, served: Served): Methods {
  const { host, migrations, log, succeeding, options } = served;
  let isLeaving = false;
  const wanted = (path: unknown): ServedDevice[] =>
    host.berths
      .filter(({ socketPath }) => path === undefined || socketPath === path)
      .map(({ device }) => device);
  const stays = (): void => {
    if (isLeaving) throw new FerryError("busy", "a successor is taking over; ask it.");
  };
  const whileHere = (methods: Methods): Methods =>
    Object.fromEntries(
      Object.entries(methods).map(([name, method]): [string, Method] => [
        name,
        async (...asked) => {
          stays();
          return await method(...asked);
        },
      ]),
    );
  return {
    ...whileHere(migrationMethods((device) => migrations.find(device))),
    ...whileHere(swapMethods(host, path, tellOf(log, "swap"))),
    probe: async ({ device }) => ({
      devices: await Promise.all(wanted(device).map((each) => each.report())),
    }),
    served: async ({ device }) => ({
      served: await Promise.all(wanted(device).map((each) => each.served())),
    }),
    manifest: async () => {
      if (served.stays !== null) throw new FerryError("busy", served.stays);
      return { ...ownManifest(host.berths, options), succession: succeeding?.succession ?? null };
    },
    "hand-over": async (request) => {
      stays();
      isLeaving = true;
      try {
        const successor = await leave(host, migrations, request);
        log.info({ successor }, "handed over to a successor");
        return exitProcess(0);
      } catch (thrown) {
        isLeaving = false;
        log.warn(`not handed over: ${messageOf(thrown)}`);
        throw thrown;
      }
    },
  };
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
