import { readdirSync, readFileSync } from "node:fs";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { createProgram } from "../../src/cli/program.ts";

const root = new URL("../../", import.meta.url);
const text = (path: string) => readFileSync(new URL(path, root), "utf8");
const pagesIn = (folder: string): string[] =>
  readdirSync(new URL(folder, root))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `${folder}${name}`);
const documents = ["", "docs/", "docs/decisions/", "bench/"].flatMap(pagesIn);

interface Verb {
  readonly words: string;
  readonly options: readonly string[];
}

/** A command with all below it; what it shows under `--help` alone is no verb of its own. */
function verbsOf(command: Command, above: readonly string[] = []): Verb[] {
  const words = [...above, command.name()];
  const options = command.options.map(({ long }) => long ?? "");
  const below = command.commands.flatMap((each) => verbsOf(each, words));
  return [{ words: words.join(" "), options }, ...below];
}
const verbs = verbsOf(await createProgram());

/** The verb that a command line names, with the most words. */
const verbOf = (line: string): Verb | undefined =>
  verbs
    .filter(({ words }) => line === words || line.startsWith(`${words} `))
    .toSorted((a, b) => b.words.length - a.words.length)[0];

test("the README shows hello as it is", () => {
  const shown = /<!-- hello -->\n```ts\n([\s\S]*?)```\n<!-- \/hello -->/.exec(text("README.md"));
  expect(shown?.[1]).toBe(text("src/devices/hello/hello.ts"));
});

test("hello has less than a hundred lines", () => {
  expect(text("src/devices/hello/hello.ts").trimEnd().split("\n").length).toBeLessThan(100);
});

test("every npm script that a document names is there", () => {
  const { scripts } = JSON.parse(text("package.json")) as { scripts: Record<string, string> };
  for (const name of documents) {
    for (const [, script] of text(name).matchAll(/npm run ([a-z:-]+)/g)) {
      expect(Object.keys(scripts), `${name} names ${script}`).toContain(script);
    }
  }
});

/** Commands as they are shown: `ferry` and what follows it, up to a comment or a bracket. */
function shownIn(document: string): string[] {
  const blocks = [...document.matchAll(/```console\n([\s\S]*?)```/g)].map(
    ([, block]) => block ?? "",
  );
  const lines = blocks.flatMap((block) => block.replace(/\\\n\s*/g, "").split("\n"));
  return lines.flatMap((line) => /\$ (?:npx )?(ferry [^#(|]*)/.exec(line)?.[1]?.trim() ?? []);
}

test("every command that a document shows is one, with the options that it has", () => {
  const shown = documents.flatMap((name) => shownIn(text(name)));
  expect(shown.length).toBeGreaterThan(20);
  for (const line of shown) {
    const verb = verbOf(line.replace(/^ferry migrate (?=[/$S])/, "ferry migrate move "));
    expect(verb?.words, line).not.toBe("ferry");
    for (const [option] of line.matchAll(/--[a-z-]+/g)) {
      expect(verb?.options, line).toContain(option);
    }
  }
});

test("every option is in a document", () => {
  const all = documents.map(text).join("\n");
  const everywhere = ["--json", "--timeout", "--version"];
  const missing = verbs.flatMap(({ words, options }) =>
    options
      .filter((option) => !everywhere.includes(option) && !all.includes(option))
      .map((option) => `${words} ${option}`),
  );
  expect(missing).toEqual([]);
});
