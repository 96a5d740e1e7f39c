/** What must be true when a fault has passed, and what is not. */
import { setTimeout as sleep } from "node:timers/promises";
import type { MigratingHost } from "../../support/migrating-host.ts";
import type { Trip } from "./trip.ts";
import { acts, decisionOf } from "./watch.ts";

/** No migration stays open for so long unless something hangs. */
const hangMs = 150_000;
/** What a guest must still be able to do. */
const afterwards = 20;

/** Pairs of the last decisions of source and target with which nothing is open. */
const agreements: Readonly<Record<string, readonly string[]>> = {
  none: ["none", "never"],
  kept: ["never"],
  gone: ["own"],
};

/** Watches a trip to its end: the sentences that it leaves are what went wrong. */
export class Outcome {
  readonly wrong: string[] = [];
  /** How it ended, for a table. */
  ended = "";
  readonly #trip: Trip;
  #resolved = false;

  constructor(trip: Trip) {
    this.#trip = trip;
  }

  #expect(isSo: boolean, otherwise: string): void {
    if (!isSo) this.wrong.push(otherwise);
  }

  get #hosts(): readonly MigratingHost[] {
    const { source, target } = this.#trip.scene;
    return [source, target];
  }

  async check(): Promise<void> {
    const trip = this.#trip;
    if (!(await this.#settles())) return;
    const { source, target } = trip.scene;
    const owner = decisionOf(target, trip.token) === "own" ? target : source;
    const died = trip.struck && trip.fault.what === "is killed" && this.#diedIs(owner);
    this.ended = `${owner === target ? "moved" : "kept"}${died ? ", its owner died" : ""}`;
    if (this.#resolved) this.ended += ", resolved";
    await this.#checkOwner(owner);
    if (trip.fault.who === "guest" && trip.fault.what === "is killed" && trip.struck) {
      await this.#bootsAgain(owner);
    } else if (died) await this.#checkLoss(owner);
    else await this.#checkGuest(owner);
    for (const { name, ferry } of this.#hosts) {
      this.#expect(ferry.noise === "", `${name} said: ${ferry.noise.slice(0, 500)}`);
    }
  }

  #diedIs(owner: MigratingHost): boolean {
    const { scene, fault } = this.#trip;
    return (fault.who === "source" || fault.who === "target") && scene[fault.who] === owner;
  }

  /** Waits until the journals agree and nobody migrates; resolves what cannot settle by itself. */
  async #settles(): Promise<boolean> {
    const endMs = Date.now() + hangMs;
    for (;;) {
      const standing = await this.#standing().catch((thrown: unknown) => String(thrown));
      if (standing === "") return true;
      if (Date.now() > endMs) {
        this.wrong.push(`it never settles: ${standing}`);
        return false;
      }
      await sleep(100);
    }
  }

  /** What is still open; empty when nothing is. */
  async #standing(): Promise<string> {
    const { scene, token, fault } = this.#trip;
    const [ours, theirs] = [decisionOf(scene.source, token), decisionOf(scene.target, token)];
    const statuses = await Promise.all(this.#hosts.map((host) => host.status()));
    const undecided = statuses.some(({ migration }) => migration?.undecided === true);
    if (ours === "deciding" && fault.what === "is cut for good") await this.#resolve(theirs);
    const goesOn = statuses.some(
      ({ migration, port }) => migration?.report.outcome === null || port.master !== "none",
    );
    const agree = agreements[ours]?.includes(theirs) === true;
    if (agree && !goesOn && !undecided) return "";
    return `source ${ours}, target ${theirs}, ${goesOn ? "goes on" : "over"}`;
  }

  /** An operator who has seen the target's journal, for the sides will not meet. */
  async #resolve(theirs: string): Promise<void> {
    if (theirs !== "own" && theirs !== "never") return;
    const { source } = this.#trip.scene;
    const { migration } = await source.status();
    if (migration?.undecided !== true) return;
    this.#resolved = true;
    await source.ask("migrate-resolve", { owner: theirs === "own" ? "there" : "here" });
  }

  /** The owner's device acts; the other host's is not the guest's any more. */
  async #checkOwner(owner: MigratingHost): Promise<void> {
    const { port } = await owner.status();
    this.#expect(acts(port), `${owner.name} has the device and it is ${JSON.stringify(port)}`);
  }

  /** The guest goes on where its device is: nothing is lost, wrong or done twice. */
  async #checkGuest(owner: MigratingHost): Promise<void> {
    const { scene, fault, struck } = this.#trip;
    const { guest, source } = scene;
    await guest.tell({ op: owner === source ? "stay" : "arrive" });
    await guest.tell({ op: "work", operations: afterwards });
    await guest.tell({ op: "drain" });
    const { trouble, wrong, firstError, pending, operations } = guest.count;
    this.#expect(trouble === "", `the guest cannot go on: ${trouble}`);
    this.#expect(wrong === 0, `${wrong} operations ended wrong: ${firstError}`);
    this.#expect(pending === 0, `${pending} operations are lost`);
    const counts = await Promise.all(this.#hosts.map((host) => host.completed()));
    const completed = counts.reduce((sum, count) => sum + count, 0);
    // Who was killed does not count any more.
    const lower = struck && fault.what === "is killed" ? 0 : operations;
    const fits = completed >= lower && completed <= operations;
    this.#expect(fits, `${operations} operations, and the devices count ${counts.join(" + ")}`);
  }

  /** The owner died: the guest is told by its connection, the operator by the tool. */
  async #checkLoss(owner: MigratingHost): Promise<void> {
    const { scene, diedOpen } = this.#trip;
    const { guest, source } = scene;
    await guest.tell({ op: owner === source ? "stay" : "arrive" });
    await guest.tell({ op: "work", operations: afterwards });
    this.#expect(guest.count.trouble !== "", "the guest goes on with a device that is lost");
    this.#expect(guest.count.wrong === 0, `it was given wrong answers: ${guest.count.firstError}`);
    const says = !diedOpen || (await isToldOfLoss(owner));
    this.#expect(says, `${owner.name} does not say that the device was lost`);
    await this.#bootsAgain(owner);
  }

  async #bootsAgain(owner: MigratingHost): Promise<void> {
    const { scene } = this.#trip;
    await scene.bootAgain(owner);
    await scene.guest.tell({ op: "work", operations: afterwards });
    const { trouble, wrong } = scene.guest.count;
    this.#expect(trouble === "" && wrong === 0, `a new guest cannot work: ${trouble}`);
  }
}

/** What is announced may come a moment after the line that it serves again. */
async function isToldOfLoss({ ferry }: MigratingHost): Promise<boolean> {
  const isTold = ferry.hears(({ why }) => why?.includes("was doing may be lost") === true, "loss");
  return await Promise.race([isTold.then(() => true), sleep(hangMs, false, { ref: false })]);
}
