/** A VM that has not moved: its source is asked, and believed as far as it answers. */
import { describe, expect, it } from "vitest";
import { FerryError } from "../../src/base/errors.ts";
import { lookBack } from "../../src/vm/left-behind.ts";
import type { Qemu } from "../../src/vm/qemu.ts";

const why = new FerryError("kept", "no.");

/** A QEMU that is in a state, or does not say it. */
const qemu = (path: string, state: string | FerryError = "running"): Qemu => {
  const runState = () => (state instanceof FerryError ? Promise.reject(state) : state);
  return { path, runState, progress: async () => ({ why: "" }) } as unknown as Qemu;
};

const look = async (source: Qemu, notBack = "") => lookBack(source, qemu("/b"), notBack, why);

describe("a VM that has not moved", () => {
  it("runs as before", async () => {
    const sentence = "The VM stays with /a, where it is running: no.";
    expect(await look(qemu("/a"))).toEqual({ trouble: "", sentence });
  });

  it("runs, and a device has not come back", async () => {
    const sentence = "The VM stays with /a, where it is running, but it is away: no.";
    expect(await look(qemu("/a"), "it is away")).toEqual({ trouble: "it is away", sentence });
  });

  it("stands still", async () => {
    const sentence = "The VM stays with /a, where it is paused: no.";
    expect(await look(qemu("/a", "paused"))).toEqual({ trouble: "it is paused", sentence });
  });

  it("has ended with its QEMU", async () => {
    const { trouble, sentence } = await look(qemu("/a", new FerryError("qmp-lost", "It is gone.")));
    expect(trouble).toBe("It is gone.");
    expect(sentence).toMatch(/^The VM has not moved, and It is gone\. If \/a has ended, so has/);
  });

  it("hangs, with what frees it", async () => {
    const { trouble, sentence } = await look(qemu("/a", new FerryError("too-late", "late.")));
    expect(trouble).toBe("/a does not answer: the VM may stand still.");
    expect(sentence).toMatch(
      /wait for \/b, or .*: end what hangs\. .* say migrate_cancel and cont to it/,
    );
  });
});
