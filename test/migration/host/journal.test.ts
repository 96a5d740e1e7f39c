import { spawnSync } from "node:child_process";
import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import {
  JournalFile,
  journalBytesMax,
  recordsMax,
  settledMax,
} from "../../../src/host/journal-file.ts";
import {
  type Decision,
  type JournalRecord,
  recover,
} from "../../../src/migration/hosts/journal.ts";
import { temporaryFolder } from "../../support/ferry.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

let files = 0;
const freshPath = (): string => join(folder.path, `${files++}.journal`);
const tokenOf = (n: number): string => n.toString(16).padStart(32, "0");
const record = (decision: Decision, n = 1): JournalRecord => ({
  token: tokenOf(n),
  decision,
  device: "fake",
  peer: "bob",
  address: "tls://bob:7100",
  pki: "",
  by: "protocol",
  atMs: 1,
});

describe("a journal", () => {
  it("takes nothing that contradicts it, and can be opened again", async () => {
    const path = freshPath();
    const journal = await JournalFile.open(path);
    for (const decision of ["deciding", "gone"] as const) await journal.append(record(decision));
    await expect(journal.append(record("deciding"))).rejects.toThrow("says deciding after gone");
    await journal.append(record("deciding", 2));
    await journal.close();
    const again = await JournalFile.open(path);
    expect(again.records).toHaveLength(3);
    await again.close();
  });

  it("tells who has what, from its records alone", () => {
    const decided = (...list: Decision[]) => {
      const [fate] = recover(list.map((decision) => record(decision)));
      return [fate?.side, fate?.decision, fate?.settled];
    };
    expect(decided("deciding")).toEqual(["source", "deciding", false]);
    expect(decided("deciding", "kept")).toEqual(["source", "kept", true]);
    expect(decided("deciding", "gone")).toEqual(["source", "gone", true]);
    expect(decided("expected")).toEqual(["target", "expected", false]);
    expect(decided("expected", "own")).toEqual(["target", "own", false]);
    expect(decided("expected", "own", "done")).toEqual(["target", "own", true]);
    expect(decided("never", "done")).toEqual(["target", "never", true]);
  });

  it("keeps the two sides of a migration within one host apart", () => {
    const both = recover([record("expected"), record("deciding"), record("own"), record("gone")]);
    expect(both.map(({ decision }) => decision).sort()).toEqual(["gone", "own"]);
  });

  it.each<Decision[]>([
    ["kept"],
    ["own"],
    ["deciding", "kept", "gone"],
    ["expected", "own", "never"],
  ])("that says %s %s %s contradicts itself", (...list) => {
    expect(() => recover(list.map((decision) => record(decision)))).toThrow("Find out which host");
  });
});

describe("a journal's file", () => {
  it("is there again after a restart, for its owner only", async () => {
    const path = freshPath();
    const journal = await JournalFile.open(path);
    await journal.append(record("deciding"));
    await Promise.all([journal.append(record("gone")), journal.append(record("expected", 2))]);
    await journal.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const again = await JournalFile.open(path);
    expect(again.records).toEqual([record("deciding"), record("gone"), record("expected", 2)]);
    await again.close();
  });

  it("leaves out what was being written when the machine stopped, at every byte", async () => {
    const path = freshPath();
    const journal = await JournalFile.open(path);
    await journal.append(record("deciding"));
    const first = readFileSync(path).length;
    await journal.append(record("gone"));
    await journal.close();
    const whole = readFileSync(path);
    for (let length = first; length < whole.length; length += 7) {
      writeFileSync(path, whole.subarray(0, length));
      const torn = await JournalFile.open(path);
      expect(torn.records).toHaveLength(1);
      await torn.append(record("kept"));
      await torn.close();
      const again = await JournalFile.open(path);
      expect(again.records.map(({ decision }) => decision)).toEqual(["deciding", "kept"]);
      await again.close();
    }
  });

  it("that is damaged in its middle is not believed", async () => {
    const path = freshPath();
    const journal = await JournalFile.open(path);
    await journal.append(record("deciding"));
    await journal.append(record("gone"));
    await journal.close();
    writeFileSync(path, readFileSync(path, "utf8").replace("deciding", "decidinG"));
    await expect(JournalFile.open(path)).rejects.toThrow(/line 1 of .* is damaged/);
  });

  it("that is something else is not taken", async () => {
    const path = freshPath();
    appendFileSync(path, "this is no journal\nit is a letter\n");
    await expect(JournalFile.open(path)).rejects.toThrow("damaged");
    await expect(JournalFile.open(join(folder.path, "no", "where"))).rejects.toThrow(
      "cannot be used",
    );
  });

  it("is not read when it is longer than any", async () => {
    const path = freshPath();
    writeFileSync(path, "");
    truncateSync(path, journalBytesMax + 1);
    await expect(JournalFile.open(path)).rejects.toThrow("has 16777217 bytes: it is no journal");
  });

  it("stays small: what is over is left out, what is open never", async () => {
    const path = freshPath();
    const journal = await JournalFile.open(path);
    await journal.close();
    const lines = JSON.stringify;
    expect(lines(journal.records)).toBe("[]");
    const full = await JournalFile.open(path);
    await full.append(record("expected", 0));
    for (let n = 1; n * 2 < recordsMax + 2; n++) {
      await Promise.all([full.append(record("deciding", n)), full.append(record("kept", n))]);
    }
    await full.close();
    const again = await JournalFile.open(path);
    expect(again.records.length).toBeLessThan(settledMax * 2 + 10);
    expect(again.records[0]).toEqual(record("expected", 0));
    await again.close();
  });

  it("takes a decision back for which there is no room", async () => {
    const path = freshPath();
    const script = fileURLToPath(new URL("full-disk.ts", import.meta.url));
    // A file of this process may have 1 KiB: a record that goes beyond is written in part.
    const command = `ulimit -f 1; exec "$0" --import tsx "$1" "$2"`;
    const { stdout } = spawnSync("bash", ["-c", command, process.execPath, script, path]);
    const { written, refused } = JSON.parse(String(stdout)) as Record<string, number>;
    expect(written).toBeGreaterThan(1);
    expect(refused).toBeGreaterThan(0);
    const journal = await JournalFile.open(path);
    expect(journal.records).toHaveLength(written ?? 0);
    await journal.close();
  });
});
