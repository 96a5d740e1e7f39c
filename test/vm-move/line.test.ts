/** A VM goes with its device's interrupt line down, or stays. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
  world.first.pin = 1;
});
afterEach(() => world.end());

describe("a VM whose device has an interrupt line", () => {
  it("moves when it is down, and it is held down before the device stands still", async () => {
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    const held = world.log.indexOf("source hold-line");
    expect(held).toBeGreaterThan(0);
    expect(held).toBeLessThan(world.log.indexOf("source migrate-continue"));
    expect(world.log.filter((line) => line.endsWith("hold-line"))).toHaveLength(1);
    expect(world.looked).toBe(0);
  });

  it.each([1, 2, 4])("has it lowered by reads of a BAR: after %i of them", async (turns) => {
    world.first.line = { up: turns, quiet: { bar: 0, offset: 0x40 } };
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    expect(world.looked).toBe(turns);
  });

  it.each([
    ["stays up", 100, { bar: 0, offset: 0x40 }, 4],
    ["is up, and nothing of it can be read without effect", 1, null, 0],
    ["is up, and its BAR is nowhere", 1, { bar: 2, offset: 0x40 }, 0],
  ])("stays where it is when the line %s", async (_, up, quiet, reads) => {
    world.first.line = { up, quiet };
    const { outcome, sentence } = await world.move();
    expect(sentence).toMatch(/acc cannot move now: its interrupt line is up\. Try again/);
    expect(outcome).toBe("kept");
    expect(world.state.source).toBe("running");
    expect(world.looked).toBe(reads);
  });

  it("moves when nobody knows how the line is, but the guest uses messages", async () => {
    world.first.line = null;
    expect(await world.move()).toMatchObject({ outcome: "moved" });
  });

  it.each([
    ["uses it", 0x006, "kept"],
    ["has switched it off", 0x406, "moved"],
  ])("when nobody knows, and the guest %s: it is %s", async (_, command, outcome) => {
    Object.assign(world.first, { line: null, msi: 0x01a4, command });
    const end = await world.move();
    expect(end).toMatchObject({ outcome });
    if (outcome === "kept") expect(end.sentence).toContain("Have the guest use MSI or MSI-X.");
  });

  it.each([
    ["nothing", {}],
    ["a line that is neither up nor down", { line: { up: "perhaps", quiet: null } }],
    ["a BAR that no function has", { line: { up: true, quiet: { bar: 7, offset: 0 } } }],
    ["half a place", { line: { up: true, quiet: { bar: 0 } } }],
  ])("stays when its server answers %s", async (_, answer) => {
    world.first.lineAnswer = answer;
    const { outcome, sentence } = await world.move();
    expect(sentence).toContain("does not tell how its interrupt line is");
    expect(outcome).toBe("kept");
  });
});

it("a VM whose device has no line is not asked for it", async () => {
  world.first.pin = 0;
  expect(await world.move()).toMatchObject({ outcome: "moved" });
  expect(world.log).not.toContain("source hold-line");
});
