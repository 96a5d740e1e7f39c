import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";

it("a package proves its driver with another test runner and public exports alone", () => {
  const args = ["--test", "--test-reporter=tap", "examples/bulk-driver/contract.test.mjs"];
  const { NODE_OPTIONS: _, ...env } = process.env;
  const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8", env });
  const failed = stdout.split("\n").filter((line) => line.startsWith("not ok"));
  expect([failed, status]).toEqual([[], 0]);
  expect(stdout).toMatch(/^ok \d+ - a state arrives, and both devices behave the same$/m);
}, 60_000);
