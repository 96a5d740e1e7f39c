/** How a VM's migration is drawn: to when the VM runs, with the time in which no vCPU ran. */
import { expect, it } from "vitest";
import type { MigrationEvent } from "../../src/migration/hosts/events.ts";
import { Recorder } from "../../src/migration/hosts/report.ts";
import { renderPage } from "../../src/migration/hosts/report-page.ts";
import { drawn, type VmReport } from "../../src/vm/vm-report.ts";
import { VirtualClock } from "../migration/host/virtual-clock.ts";

const phases: ReadonlyArray<readonly [string, number]> = [
  ["check", 30],
  ["memory", 1200],
  ["fence", 1],
  ["freeze", 7],
  ["switch", 12],
  ["restore", 7],
  ["hand over", 4],
  ["run", 2],
  ["retire", 25],
];

async function told(upTo: string): Promise<{ recorder: Recorder; report: VmReport }> {
  const clock = new VirtualClock();
  const journey = { device: "VM", side: "source", peer: "/b.qmp", address: "unix:/m" } as const;
  const recorder = new Recorder(clock, journey);
  const tell = (event: MigrationEvent): void => void recorder.note(event);
  for (const [phase, ms] of phases) {
    tell({ kind: "phase", phase, step: "begins" });
    await clock.pass(ms);
    const last = phase === upTo;
    tell({ kind: "phase", phase, ...(last ? { step: "fails", why: "no" } : { step: "ends" }) });
    if (phase === "memory") {
      tell({ kind: "progress", bytes: 5e8, rounds: 3, dirtyBytes: 0, rate: 4e8 });
    }
    if (last) break;
  }
  const { phases: rows, notes, elapsedMs } = recorder.report(0);
  const end = { outcome: upTo === "" ? "moved" : "kept", trouble: "", sentence: "So." } as const;
  const blackoutMs = upTo === "" ? 33 : null;
  return { recorder, report: { ...end, elapsedMs, blackoutMs, phases: rows, notes } };
}

it("a VM that has moved is drawn to when it runs", async () => {
  const { recorder, report } = await told("");
  const page = drawn(recorder.report(0), report);
  expect(page).toMatchObject({ elapsedMs: 1263, downtimeMs: 33, bytes: 5e8, rounds: 3 });
  expect(page.phases.map(({ phase }) => phase)).toEqual(
    phases.slice(0, -1).map(([phase]) => phase),
  );
  const html = renderPage(page);
  expect(html).toContain("While it stood still: 33 ms");
  for (const { phase } of page.phases) expect(html).toContain(`>${phase}<`);
  expect(html).toContain("moved");
});

it("one that stays is drawn to its end, with what failed", async () => {
  const { recorder, report } = await told("switch");
  const page = drawn(recorder.report(0), report);
  expect(page).toMatchObject({ downtimeMs: null, outcome: { outcome: "kept" } });
  const html = renderPage(page);
  expect(html).toContain("not moved");
  expect(html).toContain('class="failed"');
});
