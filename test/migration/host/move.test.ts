/** A device moves, or stays: the ways that do not need a failure of a host. */

import { describe, expect, it } from "vitest";
import { defaultPolicy } from "../../../src/migration/hosts/precopy.ts";
import { ShowingPort } from "../../../src/migration/hosts/showing-port.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { expectKept } from "./expect-kept.ts";
import { FakePort } from "./fake-port.ts";
import { token, World } from "./world.ts";

const phasesOf = (world: World, side: "source" | "target", step: string): string[] =>
  world.events[side].flatMap((event) =>
    event.kind === "phase" && event.step === step ? [event.phase] : [],
  );

describe("a device moves", () => {
  it("with its state, and leaves nothing behind", async () => {
    const world = new World();
    const outcome = await world.move();
    await world.settle();
    expect(outcome).toMatchObject({ outcome: "moved" });
    expect(world.outcomes.target).toMatchObject([{ outcome: "moved", state: "RUNNING" }]);
    expect([...world.targetPort.state]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(world.targetPort).toMatchObject({ frozen: "none", master: "none", guest: true });
    expect(world.sourcePort).toMatchObject({ guest: false, master: "none", frozen: "hold" });
    expect(world.disks.source.records.map(({ decision }) => decision)).toEqual([
      "deciding",
      "gone",
    ]);
    expect(world.disks.target.records.map(({ decision }) => decision)).toEqual([
      "expected",
      "own",
      "done",
    ]);
  });

  it("through the phases, in their order", async () => {
    const world = new World();
    await world.move();
    await world.settle();
    const source = ["precheck", "precopy", "freeze", "save", "transfer", "hand over"];
    expect(phasesOf(world, "source", "ends")).toEqual(source);
    const target = ["offer", "receive", "validate", "commit", "thaw", "own"];
    expect(phasesOf(world, "target", "ends")).toEqual(target);
  });

  it("holds running vCPUs for good, and drops what comes from stopped ones", async () => {
    const running = new World();
    await running.move();
    const stills = running.sourcePort.log.filter((line) => line.startsWith("still"));
    expect(stills).toEqual(["still hold"]);

    const stopped = new World();
    await stopped.move({ vcpusStopped: true });
    const order = stopped.sourcePort.log;
    expect(order.indexOf("still drop")).toBeLessThan(order.indexOf("move STOP_COPY"));
  });

  it("between hosts that tidy up while the guest runs, and not while it waits", async () => {
    const running = new World();
    await running.move();
    const { sourcePort, targetPort } = running;
    const at = (log: readonly string[], what: string): number => log.indexOf(what);
    expect(at(sourcePort.log, "sweep")).toBeGreaterThanOrEqual(0);
    expect(at(sourcePort.log, "sweep")).toBeLessThan(at(sourcePort.log, "still hold"));
    expect(at(targetPort.log, "sweep")).toBeGreaterThanOrEqual(0);
    expect(at(targetPort.log, "sweep")).toBeLessThan(at(targetPort.log, "write"));

    const stopped = new World();
    await stopped.move({ vcpusStopped: true });
    expect(stopped.sourcePort.log).not.toContain("sweep");
  });

  it.each([false, true])("waits for its thaw if told to, its VMM there: %s", async (connected) => {
    const world = new World();
    world.thaw = "when told";
    world.targetPort.connected = connected;
    await world.move();
    await world.settle();
    expect(world.targetPort.now).toBe(MigState.stop);
    const target = world.reception.targets.get(token);
    expect(target?.waitsForThaw).toBe(true);
    await target?.setGoing();
    expect(world.targetPort).toMatchObject({ now: MigState.running, guest: true });
  });
});

describe("PRE_COPY", () => {
  const policy = { ...defaultPolicy, downtimeMs: 0 };

  it("goes on until nothing is left", async () => {
    const world = new World();
    world.sourcePort.dirty = [100, 50, 20];
    await world.move({ policy });
    const rounds = world.events.source.flatMap((event) =>
      event.kind === "progress" && event.rounds > 0 ? [event.dirtyBytes] : [],
    );
    expect(rounds.at(-1)).toBe(0);
    expect(world.outcomes.source).toMatchObject([{ outcome: "moved" }]);
  });

  it("is left out by a device that has none", async () => {
    const world = new World();
    world.sourcePort.hasPrecopy = false;
    expect(await world.move({ policy })).toMatchObject({ outcome: "moved" });
    expect(world.events.source).toContainEqual({
      kind: "note",
      why: "fake has no PRE_COPY; it is sent when it stands still",
    });
  });

  it("ends at its limits: stops all the same, or gives up", async () => {
    const endless = (): World => {
      const world = new World();
      world.sourcePort.dirty = Array.from({ length: 1000 }, () => 1_000_000);
      return world;
    };
    const stopped = endless();
    const limited = { ...policy, roundsMax: 5 };
    expect(await stopped.move({ policy: limited })).toMatchObject({ outcome: "moved" });
    const given = endless();
    const outcome = await given.move({ policy: { ...limited, onLimit: "abort" } });
    expect(outcome?.sentence).toMatch(/after 5 rounds more is left .* Allow a longer downtime/);
    await given.settle();
    expectKept(given);
  });

  it("keeps to its bandwidth", async () => {
    const world = new World();
    world.sourcePort.state = new Uint8Array(4000).fill(7);
    await world.move({ policy: { ...policy, bandwidth: 1000 } });
    const times = world.events.source.find((event) => event.kind === "progress");
    expect(times).toMatchObject({ bytes: 4001 });
    expect(world.clock.now()).toBeGreaterThan(3500);
  });
});

describe("pauses", () => {
  it("stands before freeze and transfer until it is told to go on", async () => {
    const world = new World();
    world.offers.put("alice");
    const source = world.source({ pauseBefore: ["freeze", "transfer"] });
    const done = source.run();
    await world.clock.pass(1000);
    expect(source.paused).toBe("freeze");
    expect(world.sourcePort.frozen).toBe("none");
    source.continue();
    await world.clock.pass(1000);
    expect(source.paused).toBe("transfer");
    expect(world.sourcePort.frozen).toBe("drop");
    source.continue();
    expect(await world.clock.until(done)).toMatchObject({ outcome: "moved" });
    expect(() => source.continue()).toThrow("not paused");
  });

  it("stands before hand over with a state that is loaded there, and can go back", async () => {
    const world = new World();
    world.offers.put("alice");
    const source = world.source({ pauseBefore: ["hand over"], vcpusStopped: true });
    const done = source.run();
    await world.clock.pass(1000);
    expect(source.paused).toBe("hand over");
    expect(world.targetPort.log).toContain("move STOP");
    source.abort("the VM does not come.");
    expect(await world.clock.until(done)).toMatchObject({ outcome: "kept", state: "RUNNING" });
    await world.settle();
    expectKept(world);
  });

  it("ends after its time, and the device runs on", async () => {
    const world = new World();
    const outcome = await world.move({ pauseBefore: ["freeze"] });
    expect(outcome?.sentence).toBe(
      "The device stays here: the pause before freeze took longer than 120000 ms.",
    );
    await world.settle();
    expectKept(world);
  });

  it("ends when running vCPUs would wait for too long", async () => {
    const world = new World();
    const outcome = await world.move({ pauseBefore: ["transfer"] });
    expect(outcome?.sentence).toContain("running vCPUs would have been held for more than 3000 ms");
    await world.settle();
    expectKept(world);
  });
});

describe("the writes of a device whose VMM copies memory itself", () => {
  const parts = (): { port: FakePort; shown: number[]; showing: ShowingPort } => {
    const port = new FakePort([1, 2, 3]);
    const shown: number[] = [];
    return { port, shown, showing: new ShowingPort(port, "kept", (pages) => shown.push(pages)) };
  };

  it("are watched from the beginning, and shown when it stands still", async () => {
    const { port, shown, showing } = parts();
    await showing.claim();
    await showing.move(MigState.preCopy);
    await showing.move(MigState.stopCopy);
    expect(shown).toEqual([3]);
    await showing.abort();
    await showing.release();
    expect(port.log).toEqual([
      ...["claim", "watchWrites kept", "move PRE_COPY", "move STOP_COPY", "showWrites"],
      ...["abort", "watchWrites off", "release"],
    ]);
  });

  it("leave the device unclaimed when they cannot be watched", async () => {
    const { port, showing } = parts();
    port.failures.set("watchWrites kept", "nobody knows what it writes.");
    await expect(showing.claim()).rejects.toThrow("nobody knows what it writes.");
    expect(port.log).toEqual(["claim", "watchWrites kept", "release"]);
  });

  it("come from no vCPU that runs again: it is held, not dropped", async () => {
    const { port, showing } = parts();
    for (const how of ["hold", "drop", "none"] as const) await showing.still(how);
    expect(port.log).toEqual(["still hold", "still drop", "still hold", "still none"]);
  });

  it("bring it back when they cannot be shown", async () => {
    const { port, showing } = parts();
    port.failures.set("showWrites", "the VMM refused them.");
    await expect(showing.move(MigState.stopCopy)).rejects.toThrow("the VMM refused them.");
    expect(port.now).toBe(MigState.stopCopy);
  });
});

describe("a guest's reset", () => {
  it.each(["still hold", "move STOP_COPY", "read", "seal true"])(
    "at %s ends the migration, and the device runs",
    async (when) => {
      const world = new World();
      let once = true;
      world.sourcePort.before = (what) => {
        if (what === when && once) world.sourcePort.guestReset();
        if (what === when) once = false;
      };
      const outcome = await world.move();
      expect(outcome).toMatchObject({ outcome: "kept", state: "RUNNING" });
      expect(outcome?.sentence).toContain("the guest has reset fake");
      await world.settle();
      expectKept(world);
    },
  );
});

describe("a reset of the target's VMM", () => {
  it("while the state comes in ends the migration", async () => {
    const world = new World();
    world.targetPort.before = (what) => {
      if (what !== "seal true") return;
      world.targetPort.before = () => {};
      world.targetPort.guestReset();
    };
    const outcome = await world.move();
    expect(outcome?.sentence).toContain("the VMM has reset fake meanwhile");
    await world.settle();
    expectKept(world);
  });

  it("once the state is loaded takes nothing away: it is as if it had come before", async () => {
    const world = new World();
    world.mishap = (said) => {
      if (said === "validated") world.targetPort.guestReset();
      return null;
    };
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    await world.settle();
    expect([...world.targetPort.state]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(world.targetPort).toMatchObject({ now: MigState.running, sealed: false, resets: 0 });
  });
});

describe("an operator", () => {
  it("ends it in any phase before the decision", async () => {
    for (const when of ["claim", "still hold", "move STOP_COPY", "read", "status"]) {
      const world = new World();
      world.offers.put("alice");
      const source = world.source();
      world.sourcePort.before = (what) => {
        if (what === when && !source.cancel.aborted) source.abort("the operator said so.");
      };
      const outcome = await world.run(source);
      expect(outcome).toMatchObject({ outcome: "kept" });
      expect(outcome?.sentence).toContain("the operator said so.");
      await world.settle();
      expectKept(world);
    }
  });

  it("ends it at the target", async () => {
    const world = new World();
    world.targetPort.before = async (what) => {
      if (what !== "write") return;
      world.targetPort.before = () => {};
      await world.reception.targets.get(token)?.abort("the target's operator said so.");
    };
    const outcome = await world.move();
    expect(outcome?.sentence).toContain("the target's operator said so.");
    await world.settle();
    expectKept(world);
  });

  it("cannot end it once the decision is out", async () => {
    const world = new World();
    world.offers.put("alice");
    const source = world.source();
    let said = "";
    world.mishap = (message) => {
      if (message !== "commit") return null;
      try {
        source.abort("too late");
      } catch (thrown) {
        said = String(thrown);
      }
      return null;
    };
    expect(await world.run(source)).toMatchObject({ outcome: "moved" });
    expect(said).toContain("the decision is out");
  });
});
