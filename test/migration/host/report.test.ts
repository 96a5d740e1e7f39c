import { describe, expect, it } from "vitest";
import type { MigrationEvent } from "../../../src/migration/hosts/events.ts";
import { Recorder } from "../../../src/migration/hosts/report.ts";
import { renderPage } from "../../../src/migration/hosts/report-page.ts";
import { bytesText, renderText, timeText } from "../../../src/migration/hosts/report-text.ts";
import { VirtualClock } from "./virtual-clock.ts";

/** A migration of 12 MB with three rounds, told by hand. */
async function recorded(kept = false) {
  const clock = new VirtualClock();
  const journey = { device: "hisi-sec2", side: "source", peer: "bob", address: "tls://bob:7100" };
  const recorder = new Recorder(clock, journey as never);
  const tell = async (ms: number, event: MigrationEvent): Promise<void> => {
    recorder.note(event);
    await clock.pass(ms);
  };
  const phase = async (name: string, ms: number): Promise<void> => {
    await tell(ms, { kind: "phase", phase: name, step: "begins" });
    await tell(0, { kind: "phase", phase: name, step: "ends" });
  };
  await phase("precheck", 8);
  await tell(10, { kind: "phase", phase: "precopy", step: "begins" });
  for (const [rounds, bytes] of [8e6, 10e6, 11e6].entries()) {
    const dirtyBytes = 4e6 / (rounds + 1);
    await tell(40, { kind: "progress", bytes, rounds: rounds + 1, dirtyBytes, rate: 2e8 });
  }
  await tell(0, { kind: "phase", phase: "precopy", step: "ends" });
  await tell(30, { kind: "paused", before: "freeze" });
  await phase("freeze", 1);
  await phase("save", 3);
  if (kept) {
    await tell(5, { kind: "phase", phase: "transfer", step: "begins" });
    const why = "section <0x101>: it makes no sense.";
    await tell(0, { kind: "phase", phase: "transfer", step: "fails", why });
    for (const each of ["save", "freeze", "precopy"]) {
      await tell(1, { kind: "phase", phase: each, step: "is undone" });
    }
    const sentence = `The device stays here: ${why}`;
    await tell(0, { kind: "verdict", outcome: "kept", sentence, state: "RUNNING", theirs: [] });
    return recorder.report(11e6);
  }
  await phase("transfer", 6);
  await phase("hand over", 9);
  const theirs = [
    { phase: "offer", startMs: 0, elapsedMs: 2 },
    { phase: "receive", startMs: 2, elapsedMs: 160 },
    { phase: "validate", startMs: 162, elapsedMs: 4 },
    { phase: "commit", startMs: 166, elapsedMs: 6 },
    { phase: "thaw", startMs: 172, elapsedMs: 3 },
  ];
  const sentence = "The device has moved.";
  await tell(0, { kind: "verdict", outcome: "moved", sentence, state: "RUNNING", theirs });
  return recorder.report(12e6);
}

describe("a report", () => {
  it("has the figures that an operator asks for", async () => {
    const report = await recorded();
    expect(report).toMatchObject({ bytes: 12e6, rounds: 3, downtimeMs: 19, elapsedMs: 187 });
    expect(report.rate).toBeCloseTo(12e6 / 0.136);
    expect(report.phases.map(({ phase, result }) => [phase, result])).toEqual(
      ["precheck", "precopy", "freeze", "save", "transfer", "hand over"].map((p) => [p, "done"]),
    );
    const last = report.theirs.at(-1);
    expect((last?.startMs ?? 0) + (last?.elapsedMs ?? 0)).toBe(187);
  });

  it("reads as text", async () => {
    const text = renderText(await recorded());
    expect(text).toContain("hisi-sec2 to bob: moved");
    expect(text).toContain("stood still 19 ms, moved 12.0 MB, at 88.2 MB/s, rounds 3");
    expect(text.split("\n").every((line) => line.length < 100)).toBe(true);
    const kept = renderText(await recorded(true));
    expect(kept).toContain("not moved");
    expect(kept).toMatch(/transfer .*failed/);
    expect(kept).toMatch(/save .*undone/);
  });

  it("is a page that needs nothing from elsewhere and runs nothing", async () => {
    for (const kept of [false, true]) {
      const page = renderPage(await recorded(kept));
      expect(page).toMatch(/^<!doctype html>/);
      expect(page).not.toMatch(/<script|<link|@import|url\(|\son\w+=/);
      expect(page.replace(/xmlns="[^"]*"/g, "")).not.toContain("http");
      expect(page).not.toContain("<0x101>");
      expect(page).toContain("hisi-sec2");
    }
  });

  const outcome = { outcome: "moved", sentence: "", state: "RUNNING", theirs: [] } as const;
  const repeated = (count: number, event: MigrationEvent): Recorder => {
    const recorder = new Recorder(new VirtualClock(), {} as never);
    for (let i = 0; i < count; i++) recorder.note(event);
    return recorder;
  };

  it.each([
    [400, 400],
    [401, 201],
    [5000, 400],
  ])("of %i points of progress has %i, the last one among them", (count, kept) => {
    const point = { kind: "progress", rounds: 0, dirtyBytes: 0, rate: 1 } as const;
    const recorder = repeated(count - 1, { ...point, bytes: 1 });
    recorder.note({ ...point, bytes: 2 });
    const { progress } = recorder.report(1);
    expect([progress.length, progress.at(-1)?.bytes]).toEqual([kept, 2]);
  });

  it.each([
    [2000, 2000],
    [2001, 2000],
  ])("of %i notes has %i, and the verdict", (count, kept) => {
    const recorder = repeated(count, { kind: "note", why: "again" });
    recorder.note({ kind: "verdict", ...outcome });
    expect(recorder.report(1)).toMatchObject({ outcome });
    expect(recorder.report(1).notes).toHaveLength(kept);
  });

  it("has what comes after hours in which nobody knew", () => {
    const recorder = repeated(5000, { kind: "undecided", why: "no route.", asked: 1 });
    recorder.note({ kind: "note", why: "at last" });
    recorder.note({ kind: "verdict", ...outcome });
    expect(recorder.report(1)).toMatchObject({ outcome, notes: ["at last"] });
  });

  it("tells sizes and times as people do", () => {
    expect([0, 999, 1500, 2.5e9].map(bytesText)).toEqual(["0 B", "999 B", "1.5 KB", "2.5 GB"]);
    expect([0.42, 12.3, 3400, 61_000].map(timeText)).toEqual(["0.42 ms", "12 ms", "3.4 s", "61 s"]);
  });
});
