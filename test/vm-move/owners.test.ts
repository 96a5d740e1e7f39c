/** A VM runs with one QEMU at a time, whatever the two are told by others, or do by themselves. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

describe("a target that was started without -S", () => {
  it("stands still until its devices are there", async () => {
    world.startsItself.target = true;
    const states = new Set<string>();
    world.before = (what) => {
      if (what.startsWith("target write")) states.add(world.state.target);
    };
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    expect([...states]).toEqual(["paused"]);
  });

  it("and that somebody sets going gets no device, and goes", async () => {
    world.before = (what) => {
      if (what === "target migrate-incoming") world.startsItself.target = true;
    };
    const { outcome, sentence } = await world.move();
    expect(outcome).toBe("kept");
    expect(sentence).toContain("is running, not paused");
    expect(world.state).toEqual({ source: "running", target: "gone" });
    expect(world.log).not.toContain("target cont");
  });
});

it("the source goes on when the target has gone, and not before", async () => {
  const { target } = world.monitors;
  target.commands["quit"] = () => {
    setTimeout(() => {
      world.state.target = "gone";
      target.hangUp();
    }, 100);
    return {};
  };
  world.refusals.set("target write 4", "E22");
  let there = "";
  world.before = (what) => {
    if (what === "source cont") there = world.state.target;
  };
  expect(await world.move()).toMatchObject({ outcome: "kept" });
  expect(there).toBe("gone");
});

it("a target has its capabilities again once the VM has moved: it may move on", async () => {
  await world.move();
  expect(Object.fromEntries(world.set.target)).toEqual({
    events: false,
    "pause-before-switchover": false,
  });
});

it("memory that would stay with the source is no way to move a VM", async () => {
  world.capabilities.push({ capability: "x-ignore-shared", state: true });
  const { outcome, sentence } = await world.move();
  expect(outcome).toBe("kept");
  expect(sentence).toContain("is set to x-ignore-shared");
});

it.each([
  ["moved", "moved", "target"],
  ["kept", "kept", "source"],
] as const)(
  "a source whose line is lost at the hand-over tells that it has %s",
  async (verdict, outcome, side) => {
    world.first.losesLine = true;
    world.first.verdict = verdict;
    expect(await world.move()).toMatchObject({ outcome });
    expect(world.state[side]).toBe("running");
  },
);
