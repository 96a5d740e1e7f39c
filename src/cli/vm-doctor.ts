import type { Command } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";
import { DeviceServer } from "../vm/device-server.ts";
import { Doctor, type Finding } from "../vm/doctor.ts";
import { renderFindings } from "../vm/doctor-report.ts";
import { Qemu } from "../vm/qemu.ts";
import { another, verb } from "./arguments.ts";
import { ExitCode, print, printJson } from "./output.ts";

interface DoctorOptions {
  readonly server?: string;
  readonly device: readonly string[];
  readonly json?: boolean;
}

function openServers({ server, device }: DoctorOptions): Map<string | null, DeviceServer> {
  const servers = new Map<string | null, DeviceServer>();
  if (server !== undefined) servers.set(null, new DeviceServer(server));
  for (const text of device) {
    const [, id, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (id === undefined || path === undefined) {
      throw new FerryError("bad-argument", `--device ${text} is no ID=SOCKET.`);
    }
    servers.set(id, new DeviceServer(path));
  }
  return servers;
}

/** A monitor that cannot be used ends it, but is a finding as everything else. */
function noMonitor(thrown: unknown): Finding {
  if (!(thrown instanceof FerryError)) throw thrown;
  const todo = "give the tool a -qmp unix:PATH,server=on,wait=off of its own.";
  return { what: "monitor", ok: false, says: messageOf(thrown), todo };
}

async function doctor(path: string, options: DoctorOptions): Promise<void> {
  const servers = openServers(options);
  try {
    const qemu = await Qemu.connect(path).catch(noMonitor);
    if (!(qemu instanceof Qemu)) return tell([qemu], null, options);
    const seen = new Doctor(qemu, servers);
    await seen.look().finally(() => qemu.close());
    tell(seen.findings, seen.role, options);
  } finally {
    for (const server of servers.values()) server.close();
  }
}

function tell(findings: readonly Finding[], role: Doctor["role"], { json }: DoctorOptions): void {
  const isReady = findings.every(({ ok }) => ok);
  if (json === true) printJson({ ready: isReady, role, findings });
  else print(renderFindings(findings, role));
  if (!isReady) process.exitCode = ExitCode.failed;
}

/** `ferry vm doctor`. */
export function addDoctor(vm: Command): void {
  verb(vm, "doctor <qmp>", "say what a VM lacks to be moved with its devices; changes nothing", [
    "vm doctor /run/vm/a.qmp --server /run/vm/a.sock",
    "vm doctor /run/vm/a.qmp --device acc0=/run/vm/a0.sock --device acc1=/run/vm/a1.sock",
  ])
    .option("--server <path>", "the socket of the server of the only device")
    .option("--device <id=socket>", "a device and its server; may be repeated", another, [])
    .action(doctor);
}
