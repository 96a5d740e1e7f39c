/** How much memory is left for the time when no vCPU runs. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { firstLimitMs, limitIn } from "../../src/vm/downtime-limit.ts";
import { VmWorld } from "./world.ts";

describe("the limit of a pass over memory", () => {
  it("is small while a VM that writes little has its passes, then doubles each time", () => {
    const passes = [1, 2, 10, 11, 12, 13].map((pass) => limitIn(pass, 300) / firstLimitMs);
    expect(passes).toEqual([1, 1, 1, 2, 4, 8]);
  });

  it("is never more than the operator's own", () => {
    expect(limitIn(1, 1)).toBe(1);
    expect(limitIn(18, 300)).toBe(300);
    expect(limitIn(100_000, 300)).toBe(300);
  });
});

describe("a VM that writes faster than its memory is copied", () => {
  let world: VmWorld;

  beforeEach(() => {
    world = new VmWorld();
  });
  afterEach(() => world.end());

  it("is given more and more time, at last the operator's, and stops as it ever did", async () => {
    const { source } = world.monitors;
    const stop = source.commands["migrate"];
    source.commands["migrate"] = (args) => {
      const write = async (): Promise<void> => {
        for (const pass of [1, 12, 13, 30]) {
          source.event("MIGRATION_PASS", { pass });
          await vi.waitFor(() => expect(world.limits.at(-1)).toBe(limitIn(pass, 300)));
        }
        stop?.(args);
      };
      void write();
      return {};
    };
    expect((await world.move()).outcome).toBe("moved");
    expect(world.limits).toEqual([300, ...[1, 12, 13].map((pass) => limitIn(pass, 300)), 300]);
  });
});
