import { FerryError } from "../base/errors.ts";
import { hostClock } from "../host/host-clock.ts";
import { within } from "../migration/hosts/clock.ts";
import type * as s from "../migration/hosts/shapes.ts";
import {
  type DeviceServer,
  endShape,
  finishedShape,
  noteShape,
  offerShape,
  pausedShape,
  phaseShape,
} from "./device-server.ts";
import type { Meeting } from "./meeting.ts";

/**
 * Where the device's migration waits for the VMM (`freeze`, `hand over`), or the VMM for it: it
 * stands still and has shown what it wrote (`saved`), or it is there.
 */
export type Milestone = "freeze" | "saved" | "hand over" | "running";

/** How a device goes from one server to another. */
export interface DeviceWay {
  readonly link: Meeting;
  /** Where they meet should it come back. */
  readonly home: Meeting;
  /** How long the device may wait for its VM, in milliseconds. */
  readonly pauseMs: number;
  /** Does the guest unmap what the device has written, as behind an IOMMU? */
  readonly unmaps: boolean;
  /** When it is there: does it go on, or stand still until it is set going? */
  readonly thaw: "at once" | "when told";
}

/** How long a server may take for what is not told to take long, in milliseconds. */
const stepMs = 60_000;
/** How long one may take to go on with a device that does not leave: its VM stands still. */
const abortMs = 10_000;
/** From the hand-over until somebody has the device; then it is undecided. */
const decisionMs = 30_000;
const askEveryMs = 100;
/** From the end of a migration until it is told. */
const endsMs = 1000;

type Finished = s.Read<typeof finishedShape>;

/** What comes of a hand-over. */
export type Fate = "running" | "kept" | "open";

/** The migration of a VM's device between its two servers, which stands where the VMM must act. */
export class DeviceMove {
  readonly #from: DeviceServer;
  readonly #to: DeviceServer;
  readonly #home: Meeting;
  readonly #finished: Promise<Finished | null>;
  readonly #reached = new Set<Milestone>();
  readonly #following = new AbortController();
  #end: Finished | null | undefined;
  /** It was there and has come back. */
  #isBack = false;
  #wake: () => void = () => {};

  private constructor(
    from: DeviceServer,
    to: DeviceServer,
    home: Meeting,
    finished: Promise<Finished | null>,
  ) {
    this.#from = from;
    this.#to = to;
    this.#home = home;
    this.#finished = finished;
    const end = (finished: Finished | null): void => {
      this.#end = finished;
      this.#following.abort();
      this.#wake();
    };
    void finished.then(end);
  }

  /** Puts the device on offer at one server and has the other one send it; `note` hears of it. */
  static async begin(
    from: DeviceServer,
    to: DeviceServer,
    { link, home, pauseMs, unmaps, thaw }: DeviceWay,
    note: (why: string) => void,
  ): Promise<DeviceMove> {
    const { address, token } = await offerOf(to, link, thaw);
    const { peer, pki } = link;
    const call = {
      method: "migrate",
      ...{ to: address, token, peer, pki, pauseMs, showWrites: true, sendWrites: unmaps },
      pauseBefore: ["freeze", "hand over"],
    };
    let hear = (_event: unknown): void => {};
    const finished = from
      .follow(call, (event) => hear(event))
      .then(
        (end) => finishedShape(end) ?? null,
        (thrown: FerryError): Finished | null =>
          thrown.code === "no-control" ? null : { outcome: "kept", sentence: thrown.message },
      );
    const move = new DeviceMove(from, to, home, finished);
    hear = (event) => {
      const milestone = pausedShape(event)?.before;
      const why = noteShape(event)?.why;
      const told = phaseShape(event);
      if (told?.phase === "save" && told.step === "ends") move.#reach("saved");
      if (milestone !== undefined) move.#reach(milestone as Milestone);
      if (why !== undefined) note(why);
    };
    move.#follow();
    return move;
  }

  /** The target says when the device is there; the source only has to be told. */
  #follow(): void {
    const hear = (event: unknown): void => {
      const told = phaseShape(event);
      if (told?.phase === "thaw" && told.step === "ends") this.#reach("running");
    };
    const call = { method: "migrate-events" };
    void this.#to.follow(call, hear, this.#following.signal).catch(() => {});
  }

  #reach(milestone: Milestone): void {
    this.#reached.add(milestone);
    this.#wake();
  }

  async #wait(milestone: Milestone, budgetMs: number, cancel?: AbortSignal): Promise<void> {
    const over = new Promise<void>((resolve) => {
      this.#wake = () => {
        if (this.#reached.has(milestone) || this.#end !== undefined) resolve();
      };
      this.#wake();
    });
    const what = `the device's way to ${milestone}`;
    await within(hostClock, { what, budgetMs, cancel }, over);
  }

  /** Done when the device is so far; throws why it went back instead. */
  async reaches(milestone: Exclude<Milestone, "running">, budgetMs = stepMs, cancel?: AbortSignal) {
    await this.#wait(milestone, budgetMs, cancel);
    if (this.#end === undefined) return;
    throw new FerryError("kept", this.#end?.sentence ?? `${this.#from.path} does not answer.`);
  }

  /** Lets it go on from where it stands; throws why it has ended instead. */
  async goOn(): Promise<void> {
    await this.#from.ask({ method: "migrate-continue" }).catch(async (thrown: FerryError) => {
      if (thrown.code !== "not-paused") throw thrown;
      const soon = { what: "the end of the device's way", budgetMs: endsMs };
      const end = await within(hostClock, soon, this.#finished).catch(() => null);
      throw end === null ? thrown : new FerryError("kept", end.sentence);
    });
  }

  /** Why the source does not have to be asked any more; null while it goes on. */
  get sentence(): string | null {
    return this.#end?.sentence ?? null;
  }

  /** Lets the target have the device, and tells who has it then. */
  async handOver(): Promise<Fate> {
    await this.goOn().catch(() => {});
    await this.#wait("running", decisionMs).catch(() => {});
    if (this.#end === null && !this.#reached.has("running")) await this.#askSource();
    // Two servers tell it, and nobody knows whose word is here first.
    if (this.#reached.has("running") || this.#end?.outcome === "moved") return "running";
    return this.#end?.outcome === "kept" ? "kept" : "open";
  }

  /**
   * The line to the source is lost, its server perhaps not: as long as it answers it is asked how
   * it ends, and told once more to go on, because the first word may be lost as well.
   */
  async #askSource(): Promise<void> {
    const endMs = hostClock.now() + decisionMs;
    await this.goOn().catch(() => {});
    for (; hostClock.now() < endMs; await hostClock.sleep(askEveryMs)) {
      const answer = await this.#from.ask({ method: "migrate-status" }).catch(() => null);
      const end = endShape(answer)?.migration.report.outcome;
      if (end === undefined) return;
      if (end === "none") continue;
      this.#end = end;
      return;
    }
  }

  /** Brings the device back, unless it is there; done when it is. */
  async abort(reason: string): Promise<void> {
    if (this.#isBack) return;
    const call = { method: "migrate-abort", reason };
    const asked = this.#end === undefined && this.#from.ask(call).catch(() => {});
    const what = `the way back of the device of ${this.#from.path}`;
    const ended = Promise.all([this.#finished, asked]);
    const [end] = await within(hostClock, { what, budgetMs: abortMs }, ended);
    if (end?.outcome === "kept") return;
    throw new FerryError("not-back", `nobody knows whether ${this.#from.path} has the device.`);
  }

  /** Sets a device going that stands still where it has come to. */
  async setGoing(): Promise<void> {
    await this.#to.ask({ method: "migrate-thaw" });
  }

  /** Brings a device back that has not been set going there; done when it runs here. */
  async giveBack(): Promise<void> {
    await this.over();
    const { address: to, token } = await offerOf(this.#from, this.#home);
    const { peer, pki } = this.#home;
    const call = { method: "migrate", to, token, peer, pki, vcpusStopped: true };
    const what = `the way back from ${this.#to.path}`;
    const returned = within(
      hostClock,
      { what, budgetMs: stepMs },
      this.#to.follow(call, () => {}),
    );
    const end = finishedShape(await returned);
    this.#isBack = end?.outcome === "moved";
    if (this.#isBack) return;
    throw new FerryError("not-back", end?.sentence ?? `${this.#to.path} does not answer.`);
  }

  /** The source's last word, once it has nothing more to do. */
  async over(): Promise<void> {
    await within(hostClock, { what: "the source's end", budgetMs: stepMs }, this.#finished);
  }
}

/** A place for a device at a server, for the one that may send it. */
async function offerOf(
  at: DeviceServer,
  { address: listen, from, toPki: pki }: Meeting,
  thaw?: DeviceWay["thaw"],
): Promise<s.Read<typeof offerShape>> {
  const offer = offerShape(await at.ask({ method: "migrate-offer", from, listen, pki, thaw }));
  if (offer !== undefined) return offer;
  throw new FerryError("bad-answer", `${at.path} made no offer.`);
}
