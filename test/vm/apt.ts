/**
 * Debian packages without installing them: a private apt root with its own package lists and an
 * empty package database, from which packages are downloaded and unpacked into a plain folder.
 * The machine's own apt state is read, never written.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { scratchFolder } from "./cache.ts";
import { type Suite, suites } from "./recipe.ts";
import { PrepareError, run } from "./run.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

const neededPrograms = ["apt-get", "apt-config", "apt-cache", "dpkg-deb", "tar", "chroot", "bash"];

export interface AptRoot {
  readonly folder: string;
  readonly environment: { readonly APT_CONFIG: string };
}

const opened = new Map<string, Promise<AptRoot>>();

/** The apt root of one architecture with fresh package lists; made once a run. */
export function aptRoot(architecture: string): Promise<AptRoot> {
  let root = opened.get(architecture);
  if (root === undefined) opened.set(architecture, (root = openRoot(architecture)));
  return root;
}

/** Package lists are large and soon out of date: the next preparation reads them again. */
export function forgetAptRoots(): void {
  opened.clear();
}

/** Downloads packages with all that they depend on and unpacks them into `folder`. */
export async function unpackClosure(
  root: AptRoot,
  suite: Suite,
  packages: readonly string[],
  folder: string,
): Promise<void> {
  const archives = await scratchFolder("archives");
  await mkdir(join(archives, "partial"));
  const location = `Dir::Cache::archives=${archives}/`;
  const args = ["install", "-y", "-qq", "--download-only", "-o", location, "-t", suite];
  await run("apt-get", [...args, ...packages], {
    what: `Downloading ${packages.join(" ")} from ${suite}`,
    environment: root.environment,
  });
  await unpackArchives(archives, folder);
}

/** Downloads exactly these packages, nothing that they depend on, and unpacks them. */
export async function unpackPackages(
  root: AptRoot,
  packages: readonly string[],
  folder: string,
): Promise<void> {
  const archives = await scratchFolder("archives");
  await run("apt-get", ["download", "-qq", ...packages], {
    what: `Downloading ${packages.join(" ")}`,
    environment: root.environment,
    folder: archives,
  });
  await unpackArchives(archives, folder);
}

/** The packages that a suite's package depends on directly. */
export async function dependencies(
  root: AptRoot,
  suite: Suite,
  packageName: string,
): Promise<string[]> {
  const text = await run("apt-cache", ["depends", "--important", "-t", suite, packageName], {
    what: `Looking up ${packageName}`,
    environment: root.environment,
  });
  return [...text.matchAll(/^ +Depends: (\S+)$/gm)].map((match) => match[1]!);
}

async function openRoot(architecture: string): Promise<AptRoot> {
  await checkMachine();
  const folder = await scratchFolder(`apt-${architecture}`);
  await mkdir(join(folder, "etc/apt.conf.d"), { recursive: true });
  await mkdir(join(folder, "etc/preferences.d"), { recursive: true });
  await mkdir(join(folder, "lists/partial"), { recursive: true });
  await mkdir(join(folder, "cache/archives/partial"), { recursive: true });
  await writeFile(join(folder, "status"), "");
  const site = await packageSite();
  const lines = Object.values(suites).map(
    (suite) => `deb [signed-by=${keyring}] ${site} ${suite} main`,
  );
  await writeFile(join(folder, "etc/sources.list"), `${lines.join("\n")}\n`);
  const configuration = join(folder, "apt.conf");
  await writeFile(configuration, await aptConfiguration(folder, architecture));
  const root = { folder, environment: { APT_CONFIG: configuration } };
  console.log(
    `vm: reading the ${architecture} package lists of ${Object.values(suites).join(", ")} ...`,
  );
  await run("apt-get", ["update", "-qq", "-o", "APT::Update::Error-Mode=any"], {
    what: "Reading Debian 13's package lists",
    environment: root.environment,
  });
  return root;
}

/** Says in one sentence why packages cannot be unpacked here. */
async function checkMachine(): Promise<void> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    const here = `${process.platform} on ${process.arch}`;
    throw new PrepareError(`The VM test sets itself up on Linux x86_64 only; this is ${here}.`);
  }
  const folders = (process.env["PATH"] ?? "").split(":").concat("/usr/sbin", "/sbin");
  for (const program of neededPrograms) {
    if (folders.some((folder) => existsSync(join(folder, program)))) continue;
    throw new PrepareError(
      `The VM test sets itself up with Debian's tools; ${program} is missing.`,
    );
  }
  if (process.getuid?.() !== 0) {
    throw new PrepareError(
      "The VM test must be set up by root once, because it builds a kernel module in a chroot.",
    );
  }
  if (!existsSync(keyring)) {
    throw new PrepareError(
      `Debian's archive keys (${keyring}) are missing: apt-get install debian-archive-keyring.`,
    );
  }
}

/** The Debian archive that this machine's own apt is set up with. */
async function packageSite(): Promise<string> {
  const known = await debianSites([]);
  if (known[0] !== undefined) return known[0];
  // A new machine or container has sources and no lists yet, and apt names no site without them.
  const lists = await scratchFolder("lists");
  await mkdir(join(lists, "partial"));
  const elsewhere = ["-o", `Dir::State::lists=${lists}/`];
  await run("apt-get", ["update", "-qq", ...elsewhere], {
    what: "Reading this machine's package lists",
  });
  const fetched = await debianSites(elsewhere);
  if (fetched[0] !== undefined) return fetched[0];
  throw new PrepareError("No Debian archive is among this machine's apt sources.");
}

async function debianSites(options: readonly string[]): Promise<string[]> {
  const format = "$(SITE) $(ORIGIN) $(LABEL)";
  const args = ["indextargets", "--format", format, "Created-By: Packages"];
  const text = await run("apt-get", [...options, ...args], { what: "Reading apt's sources" });
  return [...text.matchAll(/^(\S+) Debian Debian$/gm)].map((match) => match[1]!);
}

/** Our folders, and the machine's own way to its package server: proxies, credentials. */
async function aptConfiguration(folder: string, architecture: string): Promise<string> {
  const machine = await run("apt-config", ["dump"], { what: "Reading apt's configuration" });
  const inherited = machine
    .split("\n")
    .filter((line) =>
      /^Acquire::(?!IndexTargets|Languages|CompressionTypes|GzipIndexes)/.test(line),
    );
  return [
    `Dir "${folder}";`,
    `Dir::State "${folder}"; Dir::State::status "${folder}/status";`,
    `Dir::State::lists "${folder}/lists/";`,
    `Dir::Cache "${folder}/cache";`,
    `Dir::Etc "${folder}/etc"; Dir::Etc::sourcelist "sources.list";`,
    'Dir::Etc::netrc "/etc/apt/auth.conf"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
    `APT::Architecture "${architecture}"; APT::Architectures { "${architecture}"; };`,
    'APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none";',
    ...inherited,
    "",
  ].join("\n");
}

/** Debian 13 keeps all programs and libraries below usr; the old names are links. */
async function linkUsr(folder: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await mkdir(join(folder, "usr", name), { recursive: true });
    if (!existsSync(join(folder, name))) await symlink(`usr/${name}`, join(folder, name));
  }
}

const unpackScript = fileURLToPath(new URL("unpack.sh", import.meta.url));

async function unpackArchives(archives: string, folder: string): Promise<void> {
  const count = (await readdir(archives)).filter((name) => name.endsWith(".deb")).length;
  if (count === 0) throw new PrepareError("apt-get reported success but downloaded no package.");
  await linkUsr(folder);
  await run("bash", [unpackScript, archives, folder], { what: `Unpacking ${count} packages` });
  await rm(archives, { recursive: true });
}
