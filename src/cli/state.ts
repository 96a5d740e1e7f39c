import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { type Command, Option } from "commander";
import { FerryError } from "../base/errors.ts";
import { askControl, controlOf } from "../host/control-line.ts";
import { readState, writeState } from "../host/links/state-contents.ts";
import type { Compatibility } from "../migration/driver.ts";
import { fromLinux, toLinux } from "../migration/drivers/hisi-acc/linux-format.ts";
import { sectionNames } from "../migration/drivers/hisi-acc/sections.ts";
import { newToken } from "../migration/hosts/offers.ts";
import { StreamSection } from "../spec/ferry-stream.ts";
import { verb } from "./arguments.ts";
import { withFile } from "./files.ts";
import { print, printJson } from "./output.ts";

interface ShowOptions {
  readonly json?: boolean;
  readonly out?: string;
}

function nameOf(driver: string, kind: number): string {
  if (kind === StreamSection.pci) return "pci";
  const known = driver === "hisi-acc" ? sectionNames[kind] : undefined;
  return known ?? `kind 0x${kind.toString(16)}`;
}

async function show(path: string, { json, out }: ShowOptions): Promise<void> {
  const { hello, sections } = await readState(path);
  if (out !== undefined) {
    const bytes = toLinux(sections);
    if (typeof bytes === "string") throw new FerryError("not-linux", `${path}: ${bytes}.`);
    withFile(`${out} cannot be used`, () => writeFileSync(out, bytes, { mode: 0o600, flag: "wx" }));
  }
  const { device, compatibility } = hello;
  const rows = sections.map(({ kind, version, optional, bytes }) => ({
    ...{ name: nameOf(compatibility.driver, kind), kind, version, optional, bytes: bytes.length },
  }));
  if (json === true) {
    printJson({ device, compatibility, sections: rows });
    return;
  }
  print(`${device}, for the driver ${compatibility.driver} ${compatibility.version}`);
  for (const [name, fact] of Object.entries(compatibility.facts)) print(`  ${name}: ${fact}`);
  for (const row of rows) {
    const may = row.optional ? ", may be left out" : "";
    print(`  section ${row.name.padEnd(14)} version ${row.version}, ${row.bytes} bytes${may}`);
  }
}

interface MakeOptions {
  readonly json?: boolean;
  readonly linux: string;
  readonly for: string;
  readonly acceptV1?: boolean;
}

async function make(path: string, options: MakeOptions): Promise<void> {
  const { linux, for: server, acceptV1 = false, json } = options;
  const bytes = withFile(`${linux} cannot be used`, () => readFileSync(linux));
  const sections = fromLinux(bytes, { acceptV1 });
  if (typeof sections === "string") throw new FerryError("not-linux", `${linux}: ${sections}.`);
  const { control, device } = controlOf(server);
  const answer = await askControl(control, { method: "migrate-status", device });
  const { compatibility } = answer as { readonly compatibility: Compatibility };
  await writeState(path, compatibility, newToken(randomBytes), sections);
  if (json === true) printJson({ file: path });
  else print(`${path}: load it with ferry migrate load ${server} --from file:${path}`);
}

/** `ferry state`. */
export function addState(program: Command): void {
  const state = program.command("state").description("look into files of devices' states");
  verb(state, "show <file>", "say what is in a file; --out writes it as Linux's driver has it", [
    "state show /var/lib/ferry/sec2.state",
    "state show /var/lib/ferry/sec2.state --format linux --out sec2.acc",
  ])
    .addOption(
      new Option("--format <name>", "of what is written").choices(["linux"]).default("linux"),
    )
    .option("--out <file>", "write the 176 bytes of hisi_acc_vfio_pci there")
    .action(show);
  verb(state, "make <file>", "make a file of what Linux's driver has written", [
    "state make sec2.state --linux sec2.acc --for /run/sec2.sock",
  ])
    .requiredOption("--linux <file>", "the bytes of hisi_acc_vfio_pci")
    .requiredOption("--for <server>", "a server with a device like the one that is to get it")
    .option("--accept-v1", "also take what kernels before 6.16 have written")
    .action(make);
}
