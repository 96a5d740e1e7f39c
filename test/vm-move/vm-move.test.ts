/** A VM moves, or everything is as it was; step by step, with peers that do as they are told. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { firstLimitMs } from "../../src/vm/downtime-limit.ts";
import type { VmMove } from "../../src/vm/vm-move.ts";
import { Refusal, silence } from "./fake-qemu.ts";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

const way = [
  ...["source migrate-set-capabilities", "target migrate-set-capabilities"],
  ...["source migrate-set-parameters"],
  ...["target migrate-offer", "source migrate", "target migrate-events"],
  ...["target stop", "target migrate-incoming", "source migrate", "source migrate-continue"],
  ...["source migrate-continue"],
  ...["target getfd", "target chardev-add", "target gdbserver chardev:ferry-vm-migrate"],
];

describe("a VM moves", () => {
  it("with its device, and the source goes", async () => {
    const { outcome, sentence, blackoutMs } = await world.move();
    expect(sentence).toBe(`The VM runs with ${world.monitors.target.path}.`);
    expect(outcome).toBe("moved");
    expect(blackoutMs).toBeGreaterThanOrEqual(0);
    const writes = ["10", "4", "88", "86"].map((at) => `target write ${at}`);
    const atOnce = ["source migrate-continue", "target gdbserver none"];
    const last = ["target cont", "target migrate-set-capabilities", "source quit"];
    expect(world.log.toSorted()).toEqual([...way, ...writes, ...atOnce, ...last].toSorted());
    const end = world.log.slice(-9);
    expect([...end.slice(0, 4), ...end.slice(6)]).toEqual([...writes, ...last]);
    expect(end.slice(4, 6).toSorted()).toEqual(atOnce);
    expect(world.state).toEqual({ source: "gone", target: "running" });
  });

  it("though its source says so before its target does", async () => {
    world.first.verdict = "moved, the target late";
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    expect(world.state).toEqual({ source: "gone", target: "running" });
  });

  it.each(["intel-iommu", "virtio-iommu-pci", "arm-smmuv3", "amd-iommu"])(
    "with %s, behind which its device writes by messages",
    async (type) => {
      world.inside.push(`child<${type}>`);
      expect(await world.move()).toMatchObject({ outcome: "moved" });
      expect(world.first.sends).toBe(true);
    },
  );

  it("without an IOMMU, and its device writes as ever", async () => {
    await world.move();
    expect(world.first.sends).toBe(false);
  });

  it("in phases that are told", async () => {
    await world.move();
    const begun = world.events.flatMap((event) =>
      event.kind === "phase" && event.step === "begins" ? [event.phase] : [],
    );
    expect(begun).toEqual([
      ...["check", "prepare", "device", "memory", "fence", "freeze", "switch", "restore"],
      ...["hand over", "run", "retire"],
    ]);
  });
});

describe("what fails is taken back:", () => {
  const capabilities = "source migrate-set-capabilities";
  const unprepared = [capabilities, "source migrate-set-parameters"];
  const back = ["target quit", "source migrate_cancel", ...unprepared];
  const late = ["target quit", "source cont", ...unprepared];
  const abort = "source migrate-abort";

  const expectBack = (): void => {
    expect(world.state).toMatchObject({ source: "running" });
    expect(world.state.target).not.toBe("running");
    expect(world.log).not.toContain("target cont");
    expect(world.log).not.toContain("source quit");
  };

  /** What came of a fault, from the first thing that was taken back. */
  const undone = (from: string): string[] => {
    const at = world.log.lastIndexOf(from);
    return at < 0 ? [] : world.log.slice(at);
  };

  it("prepare, when the target refuses its capabilities", async () => {
    world.refusals.set("target migrate-set-capabilities", "no");
    expect(await world.move()).toMatchObject({ outcome: "kept" });
    expect(undone(capabilities)).toEqual([capabilities]);
    expectBack();
  });

  it("device, when its target makes no offer", async () => {
    world.refusals.set("target migrate-offer", "it is busy");
    world.failure = "that was before";
    expect((await world.move()).sentence).toMatch(/it is busy$/);
    expect(undone(capabilities)).toEqual(unprepared);
    expect(world.limits).toEqual([300, firstLimitMs, 300]);
    expectBack();
  });

  it("memory, when the target cannot listen: the device comes back, the target goes", async () => {
    world.refusals.set("target migrate-incoming", "address in use");
    expect((await world.move()).sentence).toContain("address in use");
    expect(undone("target quit")).toEqual(["target quit", abort, ...unprepared]);
    expectBack();
  });

  it("memory, as soon as the device's way has ended", async () => {
    world.monitors.source.commands["migrate"] = () => {
      world.migration = "active";
      world.first.breakOff();
      return {};
    };
    const { sentence } = await world.move();
    expect(sentence).toContain("is running: The device stays here: the link is lost.");
    expect(world.events).not.toContainEqual(expect.objectContaining({ phase: "fence" }));
    expectBack();
  });

  it.each([
    ["memory, before it is copied", 2, ["target quit"]],
    ["fence", 3, back.slice(0, 2)],
  ])("%s, when the device is not where it was", async (_, read, undoing) => {
    let reads = 0;
    world.before = (what) => {
      if (what === "source xp /1wx" && ++reads === read) world.refusals.set(what, "no memory");
    };
    expect((await world.move()).sentence).toContain("no memory");
    expect(undone("target quit")).toEqual([...undoing, abort, ...unprepared]);
    expectBack();
  });

  it("freeze, when the source's server does not go on: the device first, then the VM", async () => {
    world.refusals.set("source migrate-continue", "it is not paused");
    expect((await world.move()).sentence).toContain("it is not paused");
    expect(undone(abort)).toEqual([abort, ...back]);
    expectBack();
  });

  it("freeze, when the device's way has ended: why is what the tool tells", async () => {
    world.first.ends = true;
    expect((await world.move()).sentence).toContain("is running: The device stays here: the link");
    expectBack();
  });

  it("freeze, when the source's QEMU sets its vCPUs going: nothing waits for it", async () => {
    world.before = (what) => {
      if (what !== "source migrate-continue") return;
      world.first.pauses = false;
      world.migration = "failed";
      world.state.source = "running";
      world.monitors.source.event("MIGRATION", { status: "failed" });
    };
    expect((await world.move()).sentence).toContain("did not migrate");
    expect(undone(abort)).toEqual([abort, "target quit", ...unprepared]);
    expectBack();
  });

  it("switch, when the target's QEMU has lost its way", async () => {
    world.failure = "no space.";
    world.monitors.source.commands["migrate-continue"] = () => {
      world.log.push("source switch");
      world.migration = "failed";
      world.monitors.source.event("MIGRATION", { status: "failed" });
      return {};
    };
    expect((await world.move()).sentence).toMatch(/did not migrate\. no space\.$/);
    expect(undone(abort)).toEqual([abort, ...late]);
    expectBack();
  });

  it("switch, when the source's QEMU hangs in what it sends: it is cut off", async () => {
    const { source, target } = world.monitors;
    source.commands["migrate-continue"] = () => {
      source.isBusy = true;
      target.hangUp();
      return {};
    };
    source.commands["yank"] = (args) => {
      expect(args).toEqual({ instances: [{ type: "migration" }] });
      world.log.push("source yank");
      source.isBusy = false;
      world.migration = "failed";
      world.state.source = "running";
      return {};
    };
    const { outcome, trouble, sentence } = await world.move();
    expect({ outcome, trouble }).toEqual({ outcome: "kept", trouble: "" });
    expect(sentence).toContain("where it is running: the monitor");
    expect(undone(abort)).toEqual([abort, "source yank", ...unprepared]);
    expectBack();
  });

  it("switch, when the source's QEMU is only late: it goes on all the same", async () => {
    const { source, target } = world.monitors;
    source.commands["migrate-continue"] = () => {
      source.isBusy = true;
      world.migration = "completed";
      world.state.source = "postmigrate";
      target.hangUp();
      return {};
    };
    source.commands["yank"] = () => {
      source.isBusy = false;
      return new Refusal("Instance not found");
    };
    expect(await world.move()).toMatchObject({ outcome: "kept", trouble: "" });
    expectBack();
  });

  it.each([
    ["getfd", "target getfd"],
    ["chardev-add", "target chardev-add"],
    ["gdbserver", "target gdbserver chardev:ferry-vm-migrate"],
  ])("memory, before it is copied, when the target refuses %s", async (_, what) => {
    world.refusals.set(what, "E14");
    expect((await world.move()).outcome).toBe("kept");
    expect(undone("target gdbserver none").slice(1)).toEqual([
      ...["target quit", abort, ...unprepared],
    ]);
    expect(world.log.filter((line) => line === "source migrate")).toHaveLength(1);
    expectBack();
  });

  it("switch, when the target does not take the device's state meanwhile", async () => {
    world.first.loads = false;
    expect((await world.move()).sentence).toContain("its state was refused");
    // Both are told at once, the source to go on: only which is heard first is open.
    const goesOn = "source migrate-continue";
    expect(world.log.filter((line) => line === goesOn)).toHaveLength(2);
    const back = undone("target quit").filter((line) => line !== goesOn);
    expect(back).toEqual(late);
    expectBack();
  });

  it.each([
    ["a write of COMMAND", "target write 4"],
    ["a read of MSI's control", "target info 86"],
  ])(
    "restore, when the target refuses %s: its VM never ran, the source's goes on",
    async (_, what) => {
      world.refusals.set(what, "E14");
      expect((await world.move()).outcome).toBe("kept");
      expect(undone(abort)).toEqual([abort, ...late]);
      expectBack();
    },
  );

  it("restore, when what was written is not there", async () => {
    world.before = (what) => {
      if (what === "target info 86") world.memory.clear();
    };
    expect((await world.move()).sentence).toMatch(/configuration space at 0x\w+ holds 0x0/);
    expectBack();
  });

  it("restore, when it reaches another server than the state", async () => {
    world.first.serves.target = false;
    expect((await world.move()).sentence).toContain("target does not serve the VM");
    expectBack();
  });

  it("hand over, when the target decides against it", async () => {
    world.first.verdict = "kept";
    expect((await world.move()).sentence).toContain("The target has decided against it.");
    expect(undone("target quit")).toEqual(late);
    expectBack();
  });

  it("everything, though the target hangs and does not even quit", async () => {
    world.refusals.set("target getfd", "no descriptor");
    world.monitors.target.commands["quit"] = () => silence;
    expect((await world.move()).sentence).toContain("where it is running");
    expect(world.events).not.toContainEqual(expect.objectContaining({ step: "cannot be undone" }));
    expectBack();
  });

  it("everything, when it is interrupted", async () => {
    let move: VmMove | null = null;
    world.before = (what) => {
      if (what === "target migrate-incoming") move?.abort("it was interrupted.");
    };
    const { sentence } = await world.move((begun) => {
      move = begun;
    });
    expect(sentence).toContain("it was interrupted.");
    expectBack();
  });
});

describe("a VM that stays and does not go on as before is said to:", () => {
  it("its device's server has ended", async () => {
    world.before = (what) => {
      if (what === "target migrate-incoming") world.first.kill("source");
    };
    const { outcome, trouble, sentence } = await world.move();
    expect(outcome).toBe("kept");
    expect(trouble).toBe(`nobody knows whether ${world.first.path("source")} has all that it had`);
    expect(sentence).toContain(`where it is running, but ${trouble}: `);
  });

  it("its QEMU has ended", async () => {
    const { source } = world.monitors;
    world.before = (what) => {
      if (what === "target migrate-incoming") source.hangUp();
    };
    const { outcome, trouble, sentence } = await world.move();
    expect(outcome).toBe("kept");
    expect(trouble).toBe(`the monitor ${source.path} has closed the connection.`);
    expect(sentence).toContain(`The VM has not moved, and ${trouble} If ${source.path} has ended`);
  });
});

describe("after the hand-over nothing is taken back:", () => {
  it("it is not known who has the device: a sentence says how to go on", async () => {
    world.first.verdict = "silent";
    const { outcome, sentence } = await world.move();
    expect(outcome).toBe("open");
    expect(sentence).toContain("The VM stands still in both");
    expect(world.state).toEqual({ source: "postmigrate", target: "paused" });
  });

  it("an interruption is refused", async () => {
    let move: VmMove | null = null;
    world.before = (what) => {
      if (what === "target cont") move?.abort("it was interrupted.");
    };
    const { outcome } = await world.move((begun) => {
      move = begun;
    });
    expect(outcome).toBe("moved");
    const why = "too late to go back, though it was interrupted.";
    expect(world.events).toContainEqual({ kind: "note", why });
  });

  it("a target that does not go on has the VM all the same", async () => {
    world.refusals.set("target cont", "not now");
    const { outcome, trouble, sentence } = await world.move();
    expect(outcome).toBe("moved");
    expect(trouble).toContain("not now");
    expect(sentence).toContain(`are with ${world.monitors.target.path}, but: ${trouble}`);
    expect(world.log).not.toContain("source quit");
  });

  it("a target that is not running when it is looked at keeps its source", async () => {
    let looks = 0;
    world.before = (what) => {
      if (what === "target query-status" && world.state.target === "running" && ++looks > 1) {
        world.state.target = "internal-error";
      }
    };
    const { outcome, trouble } = await world.move();
    expect(outcome).toBe("moved");
    expect(trouble).toContain("is internal-error, not running");
    expect(world.log).not.toContain("source quit");
  });

  it("a target whose server has ended keeps its source", async () => {
    world.before = (what) => {
      if (what === "target cont") world.first.kill("target");
    };
    const { outcome, trouble } = await world.move();
    expect(outcome).toBe("moved");
    expect(trouble).toContain(world.first.path("target"));
    expect(world.log).not.toContain("source quit");
  });
});
