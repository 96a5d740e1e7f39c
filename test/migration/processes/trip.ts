/** One migration of a device under a guest at work, with one fault. */
import { setTimeout as sleep } from "node:timers/promises";
import { recover } from "../../../src/migration/hosts/journal.ts";
import type { MigratingHost, MoveEnd } from "../../support/migrating-host.ts";
import { effectOf } from "./effects.ts";
import type { Fault, Moment } from "./faults.ts";
import type { Destination, Scene } from "./scene.ts";
import { Watch } from "./watch.ts";

/** How long a moment is waited for that may come after the move has ended. */
const lateMs = 2000;
const warmUp = 20;

export class Trip {
  readonly scene: Scene;
  readonly fault: Fault;
  /** What the source's control socket has answered; null when it did not. */
  end: MoveEnd | null = null;
  token = "";
  watch: Watch | null = null;
  struck = false;
  /** Its journal had something open when a host was killed. */
  diedOpen = false;
  /** Kept when the fault has passed. */
  #passed: Promise<void> = Promise.resolve();
  #strikes: () => void = () => {};
  readonly #hasStruck = new Promise<void>((resolve) => {
    this.#strikes = resolve;
  });

  constructor(scene: Scene, fault: Fault) {
    this.scene = scene;
    this.fault = fault;
  }

  /** Moves the device; done when the move has ended, somehow, and the fault has passed. */
  async run(): Promise<void> {
    const { scene } = this;
    await scene.guest.tell({ op: "work", operations: warmUp });
    await scene.guest.tell({ op: "prepare", socket: scene.target.socket });
    const destination = await scene.offered();
    this.token = destination.token;
    this.watch = new Watch(scene, destination.token);
    this.#arm();
    const moving = this.#move(destination);
    await this.#command(moving);
    // Without a link nobody knows until an operator has said it.
    if (this.fault.what !== "is cut for good") await moving;
    await Promise.race([this.#hasStruck, sleep(lateMs)]);
    await this.#passed;
  }

  async #move(destination: Destination): Promise<void> {
    const request = { ...destination, pauseBefore: ["freeze", "transfer"] };
    try {
      this.end = await this.scene.source.migrate(request);
    } catch {
      // Its process has ended, or was stopped from the outside: the journals tell.
    }
  }

  /** What whoever commands the VMM does at the pauses. */
  async #command(moving: Promise<void>): Promise<void> {
    const { source } = this.scene;
    for (const before of ["freeze", "transfer"] as const) {
      const ended = await Promise.race([
        source.pauses(before).then(
          () => false,
          () => true,
        ),
        moving.then(() => true),
      ]);
      if (ended) return;
      if (this.#isNow({ kind: "pause", before })) await this.#strike();
      await this.#pause(source, before);
    }
  }

  async #pause(source: MigratingHost, before: "freeze" | "transfer"): Promise<void> {
    const { guest } = this.scene;
    if (before === "freeze") {
      await guest.tell({ op: "copy" });
      await guest.tell({ op: "stand" });
    } else await guest.tell({ op: "copy" });
    // Without its guest the device has nobody to move for.
    const what = guest.alive ? "migrate-continue" : "migrate-abort";
    await source.ask(what).catch(() => {});
  }

  #isNow(moment: Moment): boolean {
    return JSON.stringify(moment) === JSON.stringify(this.fault.when);
  }

  /** Sees to it that the fault strikes at its moment. */
  #arm(): void {
    const { when } = this.fault;
    const { relay } = this.scene;
    let pieces = 0;
    if (when.kind === "message" || when.kind === "pieces") {
      relay.hear = async (said, step) => {
        if (said === "bytes" && step === "taken") pieces += 1;
        const isNow =
          when.kind === "pieces" ? pieces === when.count : said === when.said && step === when.step;
        if (isNow) await this.#strike();
      };
    } else if (when.kind === "phase") {
      const begins = this.scene[when.side].ferry.hears(
        ({ phase, step }) => phase === when.phase && step === "begins",
        when.phase,
      );
      begins.then(() => this.#strike()).catch(() => {});
    }
  }

  /** Once only. What is carried waits meanwhile, so the fault comes before it. */
  async #strike(): Promise<void> {
    if (this.struck) return;
    this.struck = true;
    const { strike, pass, passMs } = effectOf(this.fault);
    await strike(this.scene);
    const { who, what } = this.fault;
    if (what === "is killed" && (who === "source" || who === "target")) {
      this.diedOpen = recover(this.scene[who].records).some(({ settled }) => !settled);
    }
    this.#passed = sleep(passMs).then(() => pass(this.scene));
    this.#passed.catch(() => {});
    this.#strikes();
  }
}
