import { existsSync } from "node:fs";
import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import type { DeviceDescription } from "../device/description.ts";
import { describeDevice } from "../device/description.ts";
import { askControl, controlPathOf } from "../host/control-line.ts";
import { closeFd } from "../sys/descriptors.ts";
import { ourMajor } from "../wire/negotiate.ts";
import { type ServerOptions, verb, withDevice, withTimeout } from "./arguments.ts";
import { print, printJson } from "./output.ts";
import { type ProbeReport, renderReport } from "./probe-report.ts";

interface ProbeOptions extends ServerOptions {
  readonly control?: string;
}

/** {@link FerryError} codes of a server that somebody else keeps busy. */
const busy: ReadonlySet<string> = new Set(["device-busy", "no-answer"]);

/** Asks the device itself, as its one client. */
function probeDevice(socketPath: string, options: ServerOptions): ProbeReport {
  return withDevice(socketPath, options, (device) => {
    const { server, minor } = device.connection;
    const description = describeDevice(device, ({ fd }) => closeFd(fd));
    return { ...description, negotiation: { version: `${ourMajor}.${minor}`, ...server } };
  });
}

/** The devices that a control socket tells of. */
async function askDevices(path: string, request: object, timeoutMs: number): Promise<unknown[]> {
  const answer = await askControl(path, { method: "probe", ...request }, { timeoutMs });
  const { devices } = (answer ?? {}) as { devices?: unknown };
  return Array.isArray(devices) ? devices : [];
}

/** Asks the server's control socket, which answers while somebody else is the device's client. */
async function probeControl(
  path: string,
  socketPath: string,
  options: ServerOptions,
): Promise<ProbeReport> {
  let found = await askDevices(path, {}, options.timeout);
  if (found.length > 1) found = await askDevices(path, { device: socketPath }, options.timeout);
  const { device } = (found[0] ?? {}) as { device?: Partial<DeviceDescription> };
  if (typeof device?.name !== "string" || !Array.isArray(device.regions)) {
    throw new FerryError("bad-answer", `${path} does not tell of the device at ${socketPath}.`);
  }
  return { ...(device as DeviceDescription), negotiation: null };
}

async function probe(socketPath: string, options: ProbeOptions): Promise<ProbeReport> {
  const controlPath = options.control ?? controlPathOf(socketPath);
  try {
    return probeDevice(socketPath, options);
  } catch (thrown) {
    const inUse = thrown instanceof FerryError && busy.has(thrown.code);
    if (!inUse || !(options.control !== undefined || existsSync(controlPath))) throw thrown;
  }
  return await probeControl(controlPath, socketPath, options);
}

/** `ferry probe`: what a server offers, like `lspci -vvv`. */
export function addProbe(program: Command): void {
  const command = verb(
    program,
    "probe <socket>",
    "show everything that a vfio-user server says about its device",
    ["probe /run/hello.sock", "probe /run/hello.sock --json | jq .config.capabilities"],
  );
  withTimeout(command)
    .option("--control <path>", "where to ask when the device is in use (SOCKET.ctl)")
    .action(async (socketPath: string, options: ProbeOptions) => {
      const found = await probe(socketPath, options);
      if (options.json) printJson(found);
      else print(renderReport(found));
    });
}
