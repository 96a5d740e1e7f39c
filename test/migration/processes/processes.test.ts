/**
 * Faults in a migration between real processes. Few of them are tried here; FERRY_FAULT_SEED and
 * FERRY_FAULT_COUNT choose others, and `npm run soak` tries them by hundreds.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../support/ferry.ts";
import { chooseFaults, faults, faultText, quickFaults } from "./faults.ts";
import { runFault } from "./row.ts";
import { makeCertificates } from "./scene.ts";

const { FERRY_FAULT_SEED: seed = "1", FERRY_FAULT_COUNT: count } = process.env;
const rows =
  count === undefined
    ? chooseFaults(Number(seed), 6, quickFaults)
    : chooseFaults(Number(seed), Number(count), faults);
const hangMs = 300_000;

const folder = temporaryFolder();
beforeAll(() => makeCertificates(folder.path), 60_000);
afterAll(() => folder[Symbol.dispose]());

describe(`a migration with one fault, seed ${seed}`, () => {
  it.concurrent.each(rows.map((fault, at) => [`row ${at}: ${faultText(fault)}`, fault] as const))(
    "%s",
    async (_, fault) => {
      const { wrong, struck } = await runFault(fault, folder.path);
      expect(wrong).toEqual([]);
      expect(struck).toBe(true);
    },
    hangMs,
  );
});

describe("the table of faults", () => {
  it("has every fault once, and a seed chooses the same ones each time", () => {
    expect(new Set(faults.map(faultText)).size).toBe(faults.length);
    const chosen = chooseFaults(7, 50);
    expect(chooseFaults(7, 50)).toEqual(chosen);
    expect(new Set(chosen.map(faultText)).size).toBe(50);
    expect(chooseFaults(8, 50)).not.toEqual(chosen);
  });
});
