/** The table of MSI-X goes with its VM, though no server has it. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { tableAt, VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

describe("a VM whose device uses MSI-X", () => {
  const on = 0x8001;
  const functionMask = 0x4000;
  const used = [0xfee0_1000, 0, 0x21, 0];
  const masked = [0xfee0_2000, 1, 0x22, 1];
  const untouched = [0, 0, 0, 1];

  /** What was written to the target's table, and to MSI-X's control. */
  const written = () => ({
    words: [...world.memory].flatMap(([at, bytes]) =>
      at >= tableAt && at < tableAt + 0x1000
        ? [[at - tableAt, Buffer.from(bytes, "hex").readUInt32LE()]]
        : [],
    ),
    last: world.log.filter((line) => line.startsWith("target write")).at(-1),
  });
  const withOffsets = (from: number, words: readonly number[]) =>
    words.map((word, index) => [from + 4 * index, word]);

  it.each([
    ["as it was, masks too", on, [...used, ...masked], withOffsets(0, [...used, ...masked])],
    [
      "under a mask of all",
      on | functionMask,
      [...used, ...used],
      withOffsets(0, [...used, ...used]),
    ],
    ["but for what nobody has touched", on, [...untouched, ...used], withOffsets(16, used)],
    ["while it is off", 1, [...used, ...untouched], withOffsets(0, used)],
  ])("gets the table back %s, and then its control", async (_, control, table, words) => {
    Object.assign(world.first, { msix: control, table });
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    expect(written()).toEqual({ words, last: "target write a2" });
    const { log } = world;
    const first = log.findIndex((line) => line.startsWith("target write 1000"));
    expect(log.indexOf("target write 4")).toBeLessThan(first);
  });

  it.each([
    ["its vector's", on, masked],
    ["all vectors'", on | functionMask, used],
  ])("stays while an interrupt waits behind %s mask", async (_, msix, entry) => {
    Object.assign(world.first, { msix, table: [...entry, ...untouched], pending: true });
    const { outcome, sentence } = await world.move();
    expect(sentence).toMatch(/an interrupt waits behind the mask .* Try again/);
    expect(outcome).toBe("kept");
    expect(world.state.source).toBe("running");
  });

  it("moves when what waits is another function's", async () => {
    Object.assign(world.first, { msix: on, table: [...used, ...untouched], pending: true });
    expect(await world.move()).toMatchObject({ outcome: "moved" });
  });

  it("stays when the table is not there on the target", async () => {
    Object.assign(world.first, { msix: on, table: [...used, ...untouched] });
    world.before = (what) => {
      if (what === "target info 10002000") world.memory.delete(tableAt);
    };
    const { outcome, sentence } = await world.move();
    expect(sentence).toContain("the MSI-X table at 0x10002000 holds 0x0 on the target");
    expect(outcome).toBe("kept");
  });

  it("stays when its monitor shows less than the table", async () => {
    Object.assign(world.first, { msix: on, table: used });
    expect((await world.move()).sentence).toContain("shows no memory at 10002000");
  });
});
