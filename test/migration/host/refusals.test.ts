/** Why a device stays where it is, and that it does. */
import { describe, expect, it } from "vitest";
import { defaultBudgets } from "../../../src/migration/hosts/budgets.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { expectKept } from "./expect-kept.ts";
import { World } from "./world.ts";

/** The target has nothing to remember any more. */
function expectNothingOpen(world: World): void {
  expect(["none", "done"]).toContain(world.decided("target"));
}

describe("a refusal", () => {
  it.each([
    ["judge", "it has 8 queues, here are 4."],
    ["claim", "the VMM migrates it."],
    ["move RESUMING", "no room."],
    ["move STOP", "section 0x101 (queues): head is outside of the ring."],
  ])("at the target's %s is passed on", async (what, sentence) => {
    const world = new World();
    world.targetPort.failures.set(what, sentence);
    const outcome = await world.move();
    expect(outcome).toMatchObject({ outcome: "kept", state: "RUNNING" });
    expect(outcome?.sentence).toContain(sentence);
    await world.settle();
    expectKept(world);
    expect(world.outcomes.target).toMatchObject([{ outcome: "kept" }]);
    expectNothingOpen(world);
  });

  it.each(["claim", "still hold", "move STOP_COPY", "seal true"])(
    "at the source's %s brings it back",
    async (what) => {
      const world = new World();
      world.sourcePort.failures.set(what, "it does not answer.");
      const outcome = await world.move();
      expect(outcome).toMatchObject({ outcome: "kept", state: "RUNNING" });
      expect(outcome?.sentence).toContain("it does not answer.");
      await world.settle();
      expectKept(world);
      expectNothingOpen(world);
    },
  );

  it.each(["a disk that hangs", "a device that is slow"])(
    "to wait for %s at the hand-over for longer than vCPUs may",
    async (what) => {
      const world = new World();
      if (what === "a disk that hangs") world.disks.source.fault = () => "hangs";
      else {
        world.sourcePort.before = async (asked) => {
          if (asked === "seal true") await world.clock.sleep(defaultBudgets.holdMs + 2000);
        };
      }
      world.offers.put("alice");
      void world.source().run();
      await world.clock.pass(defaultBudgets.holdMs + defaultBudgets.undoMs);
      expect(world.events.source).toContainEqual(
        expect.objectContaining({ phase: "hand over", step: "fails" }),
      );
      expectKept(world);
    },
  );

  it("that the link does not take keeps nobody waiting for longer than a ping", async () => {
    const world = new World();
    world.sourcePort.state = new Uint8Array(400);
    world.targetPort.before = (asked) => (asked === "write" ? new Promise(() => {}) : undefined);
    world.offers.put("alice");
    void world.source().run();
    await world.clock.pass(defaultBudgets.holdMs + defaultBudgets.pingMs + 100);
    expect(world.sourcePort).toMatchObject({ now: MigState.running, frozen: "none", guest: true });
  });

  it("is written down when the device runs again", async () => {
    const world = new World();
    world.targetPort.failures.set("move STOP", "it makes no sense.");
    const decided: string[] = [];
    world.sourcePort.before = (asked) => {
      if (asked === "still none") decided.push(world.decided("source"));
    };
    await world.move();
    expect(decided).toEqual(["kept"]);
  });

  it("is remembered by the target until the source has written that it is kept", async () => {
    const world = new World();
    world.sourcePort.failures.set("seal true", "it does not answer.");
    world.disks.source.fault = (decision) => (decision === "kept" ? "full" : null);
    world.offers.put("alice");
    void world.source().run();
    await world.settle();
    expectKept(world);
    expect([world.decided("source"), world.decided("target")]).toEqual(["deciding", "never"]);
  });

  it("is remembered when the source does not say that it was heard", async () => {
    const world = new World();
    world.targetPort.failures.set("move STOP", "it makes no sense.");
    world.mishap = (message) => (message === "released" ? "lose" : null);
    expect(await world.move()).toMatchObject({ outcome: "kept" });
    await world.settle();
    expectKept(world);
    expect(world.outcomes.target).toMatchObject([{ outcome: "kept" }]);
    expect(world.decided("target")).toBe("never");
  });

  it("is remembered beside the journal, and the oldest of more than 64 is not", async () => {
    const world = new World();
    world.targetPort.failures.set("move STOP", "it makes no sense.");
    const tokens = Array.from({ length: 65 }, (_, i) => i.toString(16).padStart(32, "0"));
    for (const [i, token] of tokens.entries()) {
      const { targets } = world.reception;
      expect([targets.size, targets.has(tokens[0] as string)]).toEqual([i, i > 0]);
      world.offers.put("alice", { token });
      await world.run(world.source({ token }));
      await world.settle();
    }
    expect([...world.reception.targets.keys()]).toEqual(tokens.slice(1));
  });

  it("says so when the device cannot be brought back", async () => {
    const world = new World();
    world.sourcePort.failures.set("move STOP_COPY", "it does not answer.");
    world.sourcePort.failures.set("abort", "it still does not.");
    await world.move();
    expect(world.events.source).toContainEqual({
      kind: "phase",
      phase: "save",
      step: "cannot be undone",
      why: "it still does not.",
    });
  });

  it("knows a host by any of its names, and keeps the one that it was offered to", async () => {
    const world = new World();
    world.otherNames = ["alice.example", "alice.local"];
    world.offers.put("alice.local");
    expect(await world.run(world.source())).toMatchObject({ outcome: "moved" });
    expect(world.disks.target.records.map(({ peer }) => peer)).toContain("alice.local");
    expect(new Set(world.disks.target.records.map(({ peer }) => peer)).size).toBe(1);
  });

  it("answers a token that was not given out, or was used, or is another host's", async () => {
    const world = new World();
    const outcome = await world.run(world.source());
    expect(outcome?.sentence).toContain("no device is on offer here for this host and token");
    world.offers.put("mallory");
    expect((await world.run(world.source()))?.outcome).toBe("kept");
    expect(world.offers.size).toBe(1);
    expectKept(world);
  });
});
