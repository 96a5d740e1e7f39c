/** A message of MSI that the VMM keeps back does not go with its VM. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

/** Four of its vectors are in use, or none. */
const [on, off] = [0x01a5, 0x01a4];

it("a VM stays while an interrupt waits behind a mask of MSI", async () => {
  Object.assign(world.first, { msi: on, masks: 2, kept: 2 });
  const { outcome, sentence } = await world.move();
  expect(sentence).toMatch(/an interrupt waits behind the mask of its MSI vector\. Try again/);
  expect(outcome).toBe("kept");
  expect(world.state.source).toBe("running");
});

it.each([
  ["is masked, but nothing waits", { msi: on, masks: 2, kept: 0 }],
  ["is masked where it is not used", { msi: 0x0181, masks: 0xfffe, kept: 2 }],
  ["is not masked", { msi: on, masks: 0, kept: 2 }],
  ["is off", { msi: off, masks: 2, kept: 2 }],
])("a VM moves when MSI %s", async (_, settings) => {
  Object.assign(world.first, settings);
  expect(await world.move()).toMatchObject({ outcome: "moved" });
});
