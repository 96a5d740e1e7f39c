import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the README shows hello as it is", () => {
  const shown = /<!-- hello -->\n```ts\n([\s\S]*?)```\n<!-- \/hello -->/.exec(text("README.md"));
  expect(shown?.[1]).toBe(text("src/devices/hello/hello.ts"));
});

test("hello has less than a hundred lines", () => {
  expect(text("src/devices/hello/hello.ts").trimEnd().split("\n").length).toBeLessThan(100);
});

test("every npm script that a document names is there", () => {
  const { scripts } = JSON.parse(text("package.json")) as { scripts: Record<string, string> };
  const documents = ["README.md", "CONTRIBUTING.md", "SPECIFICATION.md", "bench/README.md"];
  for (const name of documents) {
    for (const [, script] of text(name).matchAll(/npm run ([a-z:-]+)/g)) {
      expect(Object.keys(scripts), `${name} names ${script}`).toContain(script);
    }
  }
});
