/**
 * Never two owners (invariant 6): every message and every record of a migration, with a link, a
 * source or a target that is lost at it. The tables are those of docs/migration-protocol.md.
 */
import { describe, expect, it } from "vitest";
import type { MessageName } from "../../../src/migration/hosts/link-messages.ts";
import { token, World } from "./world.ts";

type Owner = "source" | "target";
type Side = "source" | "target";

/** Fails as soon as both devices act in the guest's name. */
function watch(world: World): void {
  const look = (): void => {
    expect(world.sourcePort.acts && world.targetPort.acts).toBe(false);
  };
  const { sourcePort, targetPort } = world;
  for (const port of [sourcePort, targetPort]) port.before = look;
}

/** Brings both sides to an end, and says who has the device. */
async function ownerOf(world: World): Promise<Owner> {
  for (const side of ["target", "source"] as const) {
    if (!world.processes[side].alive) await world.restart(side);
  }
  await world.settle();
  const { sourcePort, targetPort } = world;
  expect(world.decided("source")).not.toBe("deciding");
  expect(world.decided("target")).not.toBe("expected");
  expect(sourcePort.acts && targetPort.acts).toBe(false);
  const fates = [world.decided("source"), world.disks.target.records.map((r) => r.decision)];
  const owner = fates[1]?.includes("own") ? "target" : "source";
  expect(world.decided("source") === "gone").toBe(owner === "target");
  expect(sourcePort.acts).toBe(owner === "source");
  if (owner === "target") expect(sourcePort.guest).toBe(false);
  else expect(sourcePort).toMatchObject({ frozen: "none", master: "none", sealed: false });
  return owner;
}

/** Who has the device when this message is the last that happens. */
const messages: ReadonlyArray<readonly [MessageName, Side, before: Owner, after: Owner]> = [
  ["hello", "source", "source", "source"],
  ["accept", "target", "source", "source"],
  ["data", "source", "source", "source"],
  ["end", "source", "source", "source"],
  ["validated", "target", "source", "source"],
  ["commit", "source", "source", "target"],
  ["own", "target", "target", "target"],
  ["released", "source", "target", "target"],
];

describe.each(messages)("%s, which the %s says", (message, by, before, after) => {
  it(`is lost with its link: the device is the ${before}'s`, async () => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => (said === message ? "cut" : null));
    await world.move();
    expect(await ownerOf(world)).toBe(before);
  });

  it(`was taken, and the link is lost at the next: the device is the ${after}'s`, async () => {
    const world = new World();
    watch(world);
    let taken = false;
    world.mishap = once((said) => {
      const isNext = taken;
      taken ||= said === message;
      return isNext ? "cut" : null;
    });
    await world.move();
    expect(await ownerOf(world)).toBe(after);
  });

  it(`arrives while its link is lost: the ${before}'s or the ${after}'s`, async () => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => {
      if (said === message) queueMicrotask(() => queueMicrotask(() => world.links.at(-1)?.cut()));
      return null;
    }, message);
    await world.move();
    expect([before, after]).toContain(await ownerOf(world));
  });

  it(`is not sent, because the ${by} dies: the device is the ${before}'s`, async () => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => {
      if (said === message) world.kill(by);
      return said === message ? "lose" : null;
    });
    const moved = world.move();
    await world.clock.pass(1000);
    if (!world.processes.target.alive) await world.restart("target");
    await world.clock.until(moved);
    expect(await ownerOf(world)).toBe(before);
  });

  it(`finds nobody, because the ${other(by)} dies: the device is the ${before}'s`, async () => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => {
      if (said === message) world.kill(other(by));
      return said === message ? "lose" : null;
    });
    const moved = world.move();
    await world.clock.pass(1000);
    if (!world.processes.target.alive) await world.restart("target");
    await world.clock.until(moved);
    expect(await ownerOf(world)).toBe(before);
  });

  it("goes into nothing, and so does everything behind it", async () => {
    const world = new World();
    watch(world);
    let silent = false;
    world.mishap = (said) => {
      if (said === message && world.links.length === 1) silent = true;
      if (silent) world.links[0]?.silence();
      return silent && world.links.length === 1 ? "lose" : null;
    };
    await world.move();
    expect(await ownerOf(world)).toBe(before);
  });
});

const other = (side: Side): Side => (side === "source" ? "target" : "source");

/** A mishap that happens to the first such message only. */
function once(
  mishap: (said: MessageName, from: Side) => "cut" | "lose" | null,
  only?: MessageName,
): (said: MessageName, from: Side) => "cut" | "lose" | null {
  let done = false;
  return (said, from) => {
    if (done) return null;
    const what = mishap(said, from);
    done = what !== null || said === only;
    return what;
  };
}

/** Who has the device when a side dies while it writes its decision: before, or after it. */
const records = [
  ["expected", "target", "source", "source"],
  ["deciding", "source", "source", "source"],
  ["own", "target", "source", "target"],
  ["gone", "source", "target", "target"],
  ["done", "target", "target", "target"],
] as const;

describe.each(records)("the record %s of the %s", (decision, side, before, after) => {
  it.each([
    ["before", before],
    ["after", after],
  ] as const)("when it dies right %s: the device is the expected side's", async (when, owner) => {
    const world = new World();
    watch(world);
    world.disks[side].fault = (what) => (what === decision ? `die ${when}` : null);
    const moved = world.move();
    await world.clock.pass(2000);
    if (!world.processes.target.alive) await world.restart("target");
    await world.clock.until(moved);
    expect(await ownerOf(world)).toBe(owner);
  });

  it("cannot be written: nothing is done that it would have allowed", async () => {
    const world = new World();
    watch(world);
    let full = true;
    world.disks[side].fault = (what) => (full && what === decision ? "full" : null);
    const moved = world.move();
    await world.clock.pass(60_000);
    full = false;
    await world.clock.until(moved);
    const expected = decision === "gone" || decision === "done" ? "target" : "source";
    expect(await ownerOf(world)).toBe(expected);
  });
});

describe("the record kept of the source", () => {
  it.each(["die before", "die after"] as const)("when it would %s it", async (fault) => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => (said === "commit" ? "cut" : null));
    world.disks.source.fault = (what) => (what === "kept" ? fault : null);
    await world.move();
    expect(await ownerOf(world)).toBe("source");
    expect(world.decided("source")).toBe("kept");
  });
});

describe("the record kept of the source, on a full disk", () => {
  it("is made when there is room, and until then the device stands still", async () => {
    const world = new World();
    watch(world);
    world.mishap = once((said) => (said === "commit" ? "cut" : null));
    let full = true;
    world.disks.source.fault = (what) => (full && what === "kept" ? "full" : null);
    const moved = world.move();
    await world.clock.pass(60_000);
    expect(world.sourcePort.acts).toBe(false);
    full = false;
    await world.clock.until(moved);
    expect(await ownerOf(world)).toBe("source");
  });
});

describe("an operator ends it at the target", () => {
  it.each([
    ["a state is expected", null],
    ["ACCEPT is on its way", "accept"],
    ["the stream is on its way", "data"],
    ["VALIDATED is on its way", "validated"],
  ] as const)(
    "while %s: the device is the source's, and nobody has to remember it",
    async (_, message) => {
      const world = new World();
      watch(world);
      const end = (): void => {
        void world.reception.targets.get(token)?.abort("enough.");
      };
      if (message === null) {
        world.disks.target.fault = (decision) => {
          if (decision === "expected") end();
          return null;
        };
      } else {
        world.mishap = once((said) => {
          if (said === message) end();
          return null;
        }, message);
      }
      expect(await world.move()).toMatchObject({ outcome: "kept", state: "RUNNING" });
      expect(await ownerOf(world)).toBe("source");
      expect(world.targetPort).toMatchObject({ guest: false, frozen: "none", master: "none" });
      const decided = world.disks.target.records.map(({ decision }) => decision);
      expect(decided).toEqual(["expected", "never", "done"]);
    },
  );
});

describe("while the sides cannot meet", () => {
  /** A source that has said COMMIT and hears nothing. */
  async function undecided() {
    const world = new World();
    watch(world);
    world.mishap = once((said) => {
      if (said === "commit") world.reachable = false;
      return said === "commit" ? "cut" : null;
    });
    world.offers.put("alice");
    const source = world.source();
    const done = source.run();
    await world.clock.pass(5000);
    return { world, source, done };
  }

  it("nobody runs, and the source asks at growing intervals", async () => {
    const { world, source, done } = await undecided();
    expect(source.undecided).toBe(true);
    expect(world.sourcePort.acts || world.targetPort.acts).toBe(false);
    await world.clock.pass(600_000);
    expect(world.sourcePort.acts || world.targetPort.acts).toBe(false);
    const asked = world.events.source.filter(({ kind }) => kind === "undecided").length;
    expect(asked).toBeGreaterThan(50);
    expect(asked).toBeLessThan(75);
    world.reachable = true;
    expect(await world.clock.until(done)).toMatchObject({ outcome: "kept" });
    expect(await ownerOf(world)).toBe("source");
  });

  it("an operator can give it to the source", async () => {
    const { world, source, done } = await undecided();
    await world.clock.pass(60_000);
    source.resolve("here");
    expect(await world.clock.until(done)).toMatchObject({ outcome: "kept", state: "RUNNING" });
    expect(world.disks.source.records.at(-1)).toMatchObject({ decision: "kept", by: "operator" });
    expect(await ownerOf(world)).toBe("source");
    expect(() => source.resolve("here")).toThrow("nothing is to be resolved");
  });

  it("an operator can give it to the target, within its time", async () => {
    const { world, source, done } = await undecided();
    const target = world.reception.targets.get(token);
    expect(target?.undecided).toBe(true);
    await target?.resolve("here");
    source.resolve("there");
    expect(await world.clock.until(done)).toMatchObject({ outcome: "moved" });
    expect(await ownerOf(world)).toBe("target");
    expect(world.targetPort.acts).toBe(true);
  });

  it("the target is not an operator's to give while its source can still go back", async () => {
    const world = new World();
    let given: Promise<void> | undefined;
    world.mishap = (message) => {
      if (message !== "validated") return null;
      given ??= world.reception.targets.get(token)?.resolve("here");
      given?.catch(() => {});
      return null;
    };
    expect(await world.move()).toMatchObject({ outcome: "moved" });
    await expect(given).rejects.toThrow("the source is connected and decides");
    expect(world.disks.target.records.every(({ by }) => by === "protocol")).toBe(true);
  });

  it("the process may end and another one asks on", async () => {
    const { world, source, done } = await undecided();
    source.halt();
    expect(await world.clock.until(done)).toMatchObject({ outcome: "open" });
    expect(world.decided("source")).toBe("deciding");
    world.reachable = true;
    expect(await world.restart("source")).toMatchObject({ outcome: "kept" });
    expect(await ownerOf(world)).toBe("source");
  });

  it("another process that hears of `own` has a device that is free for others", async () => {
    const { world, source, done } = await undecided();
    await world.reception.targets.get(token)?.decide("own", "operator");
    source.halt();
    await world.clock.until(done);
    world.reachable = true;
    expect(await world.restart("source")).toMatchObject({ outcome: "moved" });
    expect(world.sourcePort).toMatchObject({ guest: false, frozen: "none", master: "none" });
  });

  it("a target that knows nothing of it answers so, and nothing is decided", async () => {
    const { world, source, done } = await undecided();
    world.disks.target.records.length = 0;
    world.reception.targets.get(token)?.halt();
    world.reachable = true;
    await world.clock.pass(60_000);
    expect(source.undecided).toBe(true);
    const told = world.events.source.filter(({ kind }) => kind === "undecided").at(-1);
    expect(told).toMatchObject({ why: expect.stringContaining("knows nothing of it") });
    source.resolve("here");
    expect(await world.clock.until(done)).toMatchObject({ outcome: "kept" });
  });
});
