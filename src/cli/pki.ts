import { resolve } from "node:path";
import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { verb } from "./arguments.ts";
import { print, printJson } from "./output.ts";

interface PkiOptions {
  readonly host: readonly string[];
  readonly json?: boolean;
}

async function pki(folder: string, { host, json }: PkiOptions): Promise<void> {
  if (host.length === 0) throw new FerryError("usage", "name the hosts: --host alice --host bob.");
  // Loaded here, because no other verb needs it.
  const { makeAuthority, makeHost } = await import("./pki-files.ts");
  const at = resolve(folder);
  const authority = await makeAuthority(at);
  const hosts: string[] = [];
  for (const name of host) hosts.push(await makeHost(at, authority, name));
  if (json === true) printJson({ authority: at, hosts });
  else for (const place of hosts) print(`${place}: copy it to that host and name it with --pki`);
}

/** `ferry pki`. */
export function addPki(program: Command): void {
  const command = verb(
    program,
    "pki <folder>",
    "make certificates by which hosts know each other when they migrate",
    ["pki ./pki --host alice --host bob", "pki ./pki --host carol    (the same authority)"],
  );
  const collect = (name: string, before: readonly string[]): string[] => [...before, name];
  command
    .option("--host <name>", "make a folder for this host; may be repeated", collect, [])
    .action(pki);
}
