/** A VM is where all of its devices are, whatever happens while they go. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { defaultBudgets } from "../../src/migration/hosts/budgets.ts";
import { VmWorld } from "./world.ts";

describe("a VM with several devices", () => {
  const ids = ["sec", "zip", "hpre"];
  let several: VmWorld;
  const [sec, zip, hpre] = ["source", "source zip", "source hpre"];

  beforeEach(() => {
    several = new VmWorld(ids);
  });
  afterEach(() => several.end());

  /** What was asked from the first hand-over on. */
  const decided = (): string[] => {
    const { log } = several;
    const restored = log.findLastIndex((line) => / (write|info) /.test(line));
    // The stub goes meanwhile.
    return log.slice(restored + 1).filter((line) => line !== "target gdbserver none");
  };

  it("moves with all of them: those before the last one stand until it has gone", async () => {
    const { outcome, sentence } = await several.move();
    expect(sentence).toBe(`The VM runs with ${several.monitors.target.path}.`);
    expect(outcome).toBe("moved");
    const told = decided();
    expect([...told.slice(0, 2).toSorted(), ...told.slice(2)]).toEqual([
      ...[sec, zip, hpre].map((name) => `${name} migrate-continue`),
      ...["target migrate-thaw", "target zip migrate-thaw"],
      ...["target cont", "target migrate-set-capabilities", "source quit"],
    ]);
    expect(several.parts.map(({ thaw }) => thaw)).toEqual([
      ...["when told", "when told", "at once"],
    ]);
    expect([...several.memory.keys()].map((at) => (at >> 20) & 0xff)).toEqual(
      [1, 2, 3].flatMap((bus) => [bus, bus, bus, bus]),
    );
  });

  it.each([
    ["has another one", (w: VmWorld) => (w.devices.source = ["sec", "zip"]), /has sec, zip; name/],
    [
      "has two in each other's places",
      (w) => w.ports.target.push(1, 3, 2),
      /zip is at pcie.0\/02.* in .*, and at pcie.0\/03/,
    ],
    ["has one more", (w: VmWorld) => w.devices.target.push("x"), /has sec, zip, hpre, x; name/],
  ])("does not move when a QEMU %s", async (_, arrange, sentence) => {
    arrange(several);
    const { outcome, sentence: said } = await several.move();
    expect(said).toMatch(sentence);
    expect(outcome).toBe("kept");
    expect(several.log).toEqual([]);
  });

  it.each([
    [0, 1],
    [1, 2],
    [0, 2],
  ])("is not confused by servers %i and %i that were exchanged", async (one, other) => {
    several.exchanged = [several.parts[one], several.parts[other]] as const;
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("kept");
    expect(sentence).toContain(`${several.parts[other]?.path("target")} does not serve the VM of`);
    expect(several.log.filter((line) => line.startsWith("target write"))).toEqual([]);
  });

  it.each([
    [0, ["target zip migrate"]],
    [1, ["target migrate"]],
    [2, ["target migrate", "target zip migrate"]],
  ])("gets back what has gone when device %i is refused, and goes on", async (at, back) => {
    (several.parts[at] ?? several.first).verdict = "kept";
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("kept");
    expect(sentence).toMatch(/is running: .*The target has decided against it/);
    const log = decided();
    expect(log.filter((line) => /^target( zip)? migrate$/.test(line))).toEqual(back);
    // The last one decides: it is not asked once another one is refused.
    expect(log.includes("source hpre migrate-continue")).toBe(at === 2);
    expect(log.filter((line) => /thaw|target cont|source quit/.test(line))).toEqual([]);
    // Nobody runs before all are back.
    expect(log.indexOf("source cont")).toBeGreaterThan(log.lastIndexOf(back.at(-1) ?? ""));
    expect(several.state.source).toBe("running");
  });

  it("gets them back at once, and each may take longer than one step back elsewhere", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"], shouldAdvanceTime: true });
    const [, , last] = several.parts;
    if (last !== undefined) last.verdict = "kept";
    let left = 2;
    const returns = new Promise<void>((resolve) => {
      several.before = (what) => {
        if (!/^target( zip)? migrate$/.test(what) || --left > 0) return;
        vi.advanceTimersByTime(defaultBudgets.undoMs);
        resolve();
      };
    });
    for (const part of several.parts) part.returnsAfter = returns;
    const { outcome, sentence } = await several.move().finally(() => vi.useRealTimers());
    expect(outcome).toBe("kept");
    expect(sentence).toMatch(/is running: .*The target has decided against it/);
    expect(several.state.source).toBe("running");
  });

  it("stands still in both when one of them does not come back", async () => {
    several.first.returns = false;
    (several.parts[1] ?? several.first).verdict = "kept";
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("open");
    const where = `sec is with ${several.first.path("target")}: It stays where it is.`;
    expect(sentence).toContain(`stands still in both: ${where} Bring all back with ferry migrate`);
    expect(several.state).toEqual({ source: "postmigrate", target: "paused" });
    // Those that had not gone run with the source again: the VM's way is back.
    expect(decided()).toContain("source hpre migrate-abort");
  });

  it("stands still in both while it is not known who has one of them", async () => {
    (several.parts[1] ?? several.first).verdict = "silent";
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("open");
    expect(sentence).toContain("it is not known who has zip: sec is with");
    expect(sentence).toContain("Bring all back with ferry migrate");
    expect(decided()).toContain("source hpre migrate-abort");
    expect(several.state).toEqual({ source: "postmigrate", target: "paused" });
  });

  it("says of how many it is not known", async () => {
    for (const part of several.parts.slice(0, 2)) part.verdict = "silent";
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("open");
    expect(sentence).toContain("it is not known who has sec, zip: sec is with");
  });

  it("can go either way while it is not known who has the last one", async () => {
    (several.parts[2] ?? several.first).verdict = "silent";
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("open");
    expect(sentence).toMatch(/If it has, say ferry migrate thaw for the others and say cont to/);
    expect(several.state).toEqual({ source: "postmigrate", target: "paused" });
  });

  it("has moved when one of them cannot be set going there", async () => {
    several.refusals.set("target zip migrate-thaw", "it does not run");
    const { outcome, sentence } = await several.move();
    expect(outcome).toBe("moved");
    expect(sentence).toContain("but: ");
    expect(sentence).toContain("it does not run");
    expect(several.log).not.toContain("source quit");
  });
});
