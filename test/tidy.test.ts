/** The house rules that no compiler knows, read from the sources themselves. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const columnsMax = 100;
const fileLinesMax = 400;
const functionLinesMax = 70;

/** From the ground up: a floor may import itself and what stands before it. */
const floors = [
  ["base"],
  ["spec"],
  ["sys"],
  ["wire"],
  ["memory"],
  ["device"],
  ["devices"],
  ["migration"],
  ["server", "client"],
  ["conform"],
  ["guest"],
  ["host"],
  ["vm"],
  ["cli"],
];

/** Where a program starts; what cannot be reached from here or from a test is dead. */
const entries = /^(src\/index|src\/cli\/main|(test|bench|examples|scripts|sim)\/.*)\.(ts|mjs)$/;

/** Without `recursive`: in Node 22 it follows symbolic links, and ours lead back to the root. */
function filesBelow(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isFile()) return [path];
    return entry.isDirectory() && entry.name !== "node_modules" ? filesBelow(path) : [];
  });
}

const text = (path: string): string => readFileSync(join(root, path), "utf8");
const folders = ["src", "test", "bench", "examples", "scripts", "sim", "docs", ".ci"];
const here = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name !== "LICENSE")
  .map((entry) => entry.name);
const files = [...here, ...folders.flatMap(filesBelow)].sort();
const sources = files.filter((path) => /\.(ts|mts|mjs|js)$/.test(path));
const documents = files.filter((path) => path.endsWith(".md"));

const floorOf = (path: string): string => /^src\/([^/]+)\//.exec(path)?.[1] ?? "";
const levelOf = (floor: string): number => floors.findIndex((row) => row.includes(floor));

/** The specifiers of static imports, exports, dynamic imports and `new URL` of a source. */
function specifiers(source: string): string[] {
  const fromImport = /(?:^|\n)\s*(?:import|export)\s(?:[^;"']*?\sfrom\s)?["']([^"']+)["']/;
  const fromCall = /(?:import|new URL)\(\s*["']([^"']+)["']/;
  const pattern = new RegExp(`${fromImport.source}|${fromCall.source}`, "g");
  return [...source.matchAll(pattern)].map(([, a, b]) => (a ?? b) as string);
}

/** A relative specifier as a path from the project's root; compiled names lead to their source. */
function target(path: string, specifier: string): string {
  const at = relative(root, resolve(root, dirname(path), specifier));
  return existsSync(join(root, at)) ? at : at.replace(/\.js$/, ".ts");
}

/** What is wrong with the imports of one file, as sentences. */
function importProblems(path: string, source: string): string[] {
  const floor = floorOf(path);
  if (floor === "") return [];
  const level = levelOf(floor);
  const problems: string[] = [];
  for (const specifier of specifiers(source)) {
    if (!specifier.startsWith(".")) {
      if (floor === "base") problems.push(`${path} (floor base) imports ${specifier}`);
      if (specifier === "koffi" && floor !== "sys")
        problems.push(`${path} imports koffi, which only src/sys may`);
      continue;
    }
    const imported = target(path, specifier);
    const other = floorOf(imported);
    if (other === "" || floor === other) continue;
    if (levelOf(other) >= level)
      problems.push(`${path} (floor ${floor}) imports ${imported} (floor ${other})`);
  }
  return problems;
}

/** What package.json gives to others and to our own workers: modules that start a program too. */
function exported(): string[] {
  const { exports } = JSON.parse(text("package.json")) as { exports: Record<string, unknown> };
  const paths = [...JSON.stringify(exports).matchAll(/"\.\/dist\/([^"]+)\.js"/g)];
  return paths.map(([, path]) => `src/${path}.ts`);
}

/** Sources that no entry reaches. */
function orphans(): string[] {
  const starts = exported();
  const isEntry = (path: string): boolean => entries.test(path) || starts.includes(path);
  const reached = new Set(sources.filter(isEntry));
  for (const path of reached) {
    for (const specifier of specifiers(text(path))) {
      const imported = specifier.startsWith(".") ? target(path, specifier) : "";
      if (sources.includes(imported)) reached.add(imported);
    }
  }
  return sources.filter((path) => path.startsWith("src/") && !reached.has(path));
}

const opensFunction = /(=>|\)(: [^{}]*(\{[^{}]*\}[^{}]*)?)?) \{$/;
/** Blocks that are no functions, and lists of tests, which are as long as they need to be. */
const opensOther =
  /^\s*(\} else |if|for|while|switch|do|try|\} catch|describe|suite|function \w+Tests)\b/;

/** Functions of a formatted source that are longer than the limit: `path:line: 90 lines`. */
function longFunctions(path: string, source: string): string[] {
  const lines = source.split("\n");
  const problems: string[] = [];
  for (const [at, line] of lines.entries()) {
    if (!opensFunction.test(line) || opensOther.test(line)) continue;
    const indent = /^\s*/.exec(line)?.[0] ?? "";
    const end = lines.findIndex((other, i) => i > at && other.startsWith(`${indent}}`));
    if (end - at + 1 > functionLinesMax)
      problems.push(`${path}:${at + 1}: a function of ${end - at + 1} lines`);
  }
  return problems;
}

/** Words that have no place in the project, with what to do instead. */
const banned: ReadonlyArray<readonly [pattern: RegExp, instead: string]> = [
  [/\b(TO(?=DO)DO|FIX(?=ME)ME|X(?=XX)XX|HA(?=CK)CK)\b/, "do it, or leave it out"],
  [/(^|[\s"'`(=])\/(work|root|home|Users)\//, "name no folder of one machine"],
  [
    /\b(npm|registry|artifactory|nexus|mirror)\.[a-z0-9-]+\.(internal|local|corp|lan)\b/,
    "no hosts",
  ],
];

function bannedWords(path: string, source: string): string[] {
  return source.split("\n").flatMap((line, at) =>
    banned
      .map(([pattern, instead]) => [pattern.exec(line)?.[0].trim(), instead] as const)
      .filter(([word]) => word !== undefined)
      .map(([word, instead]) => `${path}:${at + 1}: "${word}": ${instead}`),
  );
}

const longLines = (path: string, source: string): string[] =>
  source
    .split("\n")
    .map((line, at) => [at + 1, [...line].length, line] as const)
    .filter(([, columns, line]) => columns > columnsMax && !/https?:\/\/\S{60}/.test(line))
    .map(([at, columns]) => `${path}:${at}: ${columns} columns`);

/** A heading's anchor as forges make it. */
const anchor = (heading: string): string =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replace(/\s/g, "-");

const withoutCode = (markdown: string): string =>
  markdown.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");

function anchors(path: string): string[] {
  const markdown = text(path).replace(/^```[\s\S]*?^```/gm, "");
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchor(heading as string));
}

/** Links of a document that lead nowhere. */
function brokenLinks(path: string, markdown: string): string[] {
  const links = [...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to]) => to ?? "");
  return links
    .filter((to) => !/^[a-z]+:/.test(to))
    .filter((to) => {
      const [file, fragment] = to.split("#");
      const at = file === "" ? path : join(dirname(path), file ?? "");
      if (!existsSync(join(root, at))) return true;
      return fragment !== undefined && at.endsWith(".md") && !anchors(at).includes(fragment);
    })
    .map((to) => `${path}: ${to}`);
}

const each = (paths: readonly string[], rule: (path: string, source: string) => string[]) =>
  paths.flatMap((path) => rule(path, text(path)));

describe("the floors", () => {
  it("a lower floor never imports a higher one, and server and client never each other", () => {
    expect(each(sources, importProblems)).toEqual([]);
  });

  it("every folder of src is a floor", () => {
    const unknown = sources.filter((path) => floorOf(path) !== "" && levelOf(floorOf(path)) < 0);
    expect(unknown).toEqual([]);
  });

  it("the rule says what it found as a sentence", () => {
    const wire = "src/wire/codec.ts";
    expect(importProblems(wire, `import type { A } from "../device/device.ts";`)).toEqual([
      "src/wire/codec.ts (floor wire) imports src/device/device.ts (floor device)",
    ]);
    expect(importProblems("src/server/a.ts", `import { B } from "../client/b.ts";`)).toEqual([
      "src/server/a.ts (floor server) imports src/client/b.ts (floor client)",
    ]);
    expect(importProblems("src/base/a.ts", `import {\n  arch,\n} from "node:process";`)).toEqual([
      "src/base/a.ts (floor base) imports node:process",
    ]);
    expect(importProblems(wire, `const x = await import("koffi");`)).toEqual([
      "src/wire/codec.ts imports koffi, which only src/sys may",
    ]);
    expect(importProblems(wire, `import { bits } from "../base/bits.ts";`)).toEqual([]);
  });
});

describe("sources", () => {
  it("no source file is out of reach of the programs and the tests", () => {
    expect(orphans()).toEqual([]);
  });

  it(`no file has more than ${fileLinesMax} lines`, () => {
    const lines = (path: string) => text(path).split("\n").length - 1;
    const long = sources.filter((path) => lines(path) > fileLinesMax);
    expect(long.map((path) => `${path}: ${lines(path)} lines`)).toEqual([]);
  });

  it(`no line has more than ${columnsMax} columns`, () => {
    expect(each(sources, longLines)).toEqual([]);
    expect(longLines("a.ts", `short\n// ${"x".repeat(columnsMax)}`)).toEqual([
      `a.ts:2: ${columnsMax + 3} columns`,
    ]);
  });

  it(`no function has more than ${functionLinesMax} lines`, () => {
    expect(each(sources, longFunctions)).toEqual([]);
    const body = "  f();\n".repeat(functionLinesMax - 1);
    expect(longFunctions("a.ts", `export function f(a: A): B {\n${body}}\n`)).toEqual([
      `a.ts:1: a function of ${functionLinesMax + 1} lines`,
    ]);
    expect(longFunctions("a.ts", `const f = async () => {\n${body}};\n`)).toHaveLength(1);
    expect(longFunctions("a.ts", `if (f(a)) {\n${body}}\n`)).toEqual([]);
  });

  it("file names are kebab-case", () => {
    const odd = sources.filter((path) => !/^([a-z0-9-]+\/|\.ci\/)*[a-z0-9.-]+$/.test(path));
    expect(odd).toEqual([]);
  });
});

describe("words and links", () => {
  it("nothing says what has no place in the project", () => {
    const readable = files.filter((path) => /\.(ts|mjs|md|json|c|h|sh|ya?ml)$/.test(path));
    expect(each(readable, bannedWords)).toEqual([]);
    expect(bannedWords("a.md", `see ${["", "home", "me"].join("/")} for it`)).toHaveLength(1);
    expect(bannedWords("a.ts", `// ${"TO"}${"DO"}: later`)).toHaveLength(1);
  });

  it("every link of a document resolves", () => {
    expect(each(documents, brokenLinks)).toEqual([]);
    expect(brokenLinks("docs/a.md", "[gone](./not-there.md) [far](https://example.org)")).toEqual([
      "docs/a.md: ./not-there.md",
    ]);
  });
});
