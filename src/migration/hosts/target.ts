import { FerryError, messageOf } from "../../base/errors.ts";
import { handled } from "../../base/handled.ts";
import { MigState, migStateName } from "../../spec/vfio.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import { type Conversation, linkLost, peerAborted } from "./conversation.ts";
import type { Outcome, Tell } from "./events.ts";
import type { JournalRecord } from "./journal.ts";
import type { MessageOf, PhaseTime } from "./link-messages.ts";
import { Pace } from "./pace.ts";
import { goOn, type Phase, runPhases, type Stage } from "./phases.ts";
import { Progress } from "./progress.ts";
import { Intake } from "./pump.ts";
import { expectFree } from "./refusals.ts";
import type { SideParts } from "./side-parts.ts";
import { notUndecided, type TargetFate, Verdict } from "./target-verdict.ts";

/** What a target works with. */
export interface TargetParts extends SideParts {
  /** Where the source finds this host again, for the journal. */
  readonly at: { readonly address: string; readonly pki: string };
  /** Sets the device going at once, or leaves it standing until it is told to (`setGoing`). */
  readonly thaw: "at once" | "when told";
  /**
   * Its source asks what has become of the device. One that never does, a file, goes by what it was
   * told last: what was refused before it could let go has left no record, and may come again.
   */
  readonly asks: boolean;
}

/** The life of a migration on its target. What fails here leaves it as it was. */
const phases: ReadonlyArray<Phase<Target>> = [
  { name: "offer", budget: "greetMs", run: (t, on) => t.offer(on), undo: (t) => t.letGo() },
  { name: "receive", budget: "receiveMs", run: (t, on) => t.receive(on), undo: (t) => t.discard() },
  { name: "validate", budget: "validateMs", run: (t) => t.validate(), undo: null },
  { name: "commit", budget: null, run: (t, on) => t.commit(on), undo: null },
];

/** What follows once the device is this host's: none undoes it, and none keeps the next one off. */
const thereafter: ReadonlyArray<Phase<Target>> = [
  { name: "thaw", budget: "thawMs", run: (t) => t.thaw(), undo: null },
  { name: "own", budget: "releaseMs", run: (t) => t.own(), undo: null },
];

/** One device on its way from another host: the side that will have it. */
export class Target implements Stage {
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly tell: Tell;
  readonly times: PhaseTime[] = [];
  readonly startMs: number;
  readonly #parts: TargetParts;
  readonly #hello: MessageOf<"hello">;
  readonly #talk: Conversation;
  readonly #cancel = new AbortController();
  /** Given when it was decided, by whomever. */
  readonly #decided = new AbortController();
  readonly #verdict: Verdict;
  readonly #pace: Pace;
  readonly #progress: Progress;
  readonly #intake: Intake;
  #claimed = false;
  /** Resets of this host's VMM before the state came, and are later ones only noted? */
  #resets = 0;
  #sealed = false;
  #waitsForThaw = false;
  #trouble = "";

  constructor(parts: TargetParts, hello: MessageOf<"hello">, talk: Conversation) {
    const { port, clock, budgets, tell, journal, at } = parts;
    this.#parts = parts;
    this.#hello = hello;
    this.#talk = talk;
    this.clock = clock;
    this.budgets = budgets;
    this.tell = tell;
    this.startMs = clock.now();
    this.#pace = new Pace(clock, 0);
    this.#progress = new Progress(clock, budgets, tell, this.#pace);
    this.#intake = new Intake(async (bytes) => talk.recycle(await port.write(bytes)));
    const identity = { token: hello.token, device: port.name, peer: talk.peer, ...at };
    this.#verdict = new Verdict(journal, clock, identity);
  }

  get cancel(): AbortSignal {
    return this.#cancel.signal;
  }

  get bytes(): number {
    return this.#pace.bytes;
  }

  get fate(): TargetFate | null {
    return this.#verdict.fate;
  }

  /** A state is loaded, and nobody has decided yet. */
  get undecided(): boolean {
    return this.#verdict.open;
  }

  /** The device is this host's, and stands still until `setGoing`. */
  get waitsForThaw(): boolean {
    return this.#waitsForThaw;
  }

  /** Takes the device, or leaves everything as it was; says what came of it. It never rejects. */
  async run(): Promise<Outcome> {
    try {
      await runPhases(phases, this, { failed: (thrown) => this.#sayNo(messageOf(thrown)) });
    } catch (thrown) {
      const why = messageOf(thrown);
      if (this.undecided) return await this.#conclude("open", why);
      if (this.fate !== "own") {
        return await this.#conclude("kept", `The device does not come here: ${why}`);
      }
    }
    for (const phase of thereafter) await runPhases([phase], this).catch(() => {});
    this.#talk.close();
    const waits = "It is loaded and stands still: say thaw when its VMM is ready.";
    const well = this.#waitsForThaw ? waits : "The device runs here.";
    return await this.#conclude("moved", this.#trouble === "" ? well : this.#trouble);
  }

  /** Ends it before the device is this host's; rejects when it is already. */
  async abort(reason: string): Promise<void> {
    const fate = this.undecided ? await this.decide("never", "operator") : this.fate;
    if (fate === "own") throw new FerryError("too-late", "the device is this host's already.");
    this.#cancel.abort(new FerryError("cancelled", reason));
  }

  /**
   * An operator's word in the source's place. As long as the source is heard it decides itself: it
   * may go back before COMMIT, and then the device would run on both hosts.
   */
  async resolve(owner: "here" | "there"): Promise<void> {
    if (!this.undecided) throw notUndecided();
    if (owner === "here" && !this.#talk.over.aborted) {
      throw new FerryError("connected", "the source is connected and decides: wait, or abort.");
    }
    const wanted = owner === "here" ? "own" : "never";
    const fate = await this.decide(wanted, "operator");
    if (fate !== wanted) throw new FerryError("decided", `it was decided before: ${fate}.`);
  }

  /** Decides in the source's place, or tells what was decided: the first decision holds. */
  async decide(wanted: TargetFate, by: JournalRecord["by"]): Promise<TargetFate> {
    const fate = await this.#verdict.decide(wanted, by);
    this.#decided.abort(new FerryError("decided", `it was decided: ${fate}.`));
    return fate;
  }

  /** The process ends: what is undecided stays so, and the next process settles it. */
  halt(): void {
    this.#cancel.abort(new FerryError("cancelled", "the process ends."));
  }

  async offer(signal: AbortSignal): Promise<void> {
    const { port } = this.#parts;
    await expectFree(port, "take a state");
    const misfit = await port.judge(this.#hello.compatibility);
    if (misfit !== null) throw new FerryError("incompatible", misfit);
    goOn(signal);
    await port.claim();
    this.#claimed = true;
  }

  /** Undoes `offer`. */
  async letGo(): Promise<void> {
    if (this.fate === "own") return;
    if (this.#claimed) await this.#parts.port.release();
    this.#claimed = false;
  }

  async receive(signal: AbortSignal): Promise<void> {
    const { port } = this.#parts;
    await port.still("drop");
    await port.move(MigState.resuming);
    this.#resets = (await port.status()).resets;
    goOn(signal);
    if (this.#parts.asks) await this.#verdict.begin();
    goOn(signal);
    this.#parts.sweep();
    await this.#talk.send({ say: "accept", device: port.name });
    for (;;) {
      const message = await this.#talk.next(["data", "end"], endless, signal);
      goOn(signal);
      if (message.say === "end") return this.#checkWhole(message.bytes);
      this.#pace.count(message.bytes.length);
      await this.#intake.put(message.bytes);
      this.#progress.passes(0);
    }
  }

  #checkWhole(announced: number): void {
    const { bytes } = this;
    if (bytes === announced) return;
    throw new FerryError("cut-short", `${bytes} bytes came of ${announced} that were sent.`);
  }

  /** Undoes `receive` and what follows it: the device is as clean as before. */
  async discard(): Promise<void> {
    if (this.undecided || this.fate === "own") return;
    const { port } = this.#parts;
    if (this.#sealed) await port.seal(false, this.#resets);
    this.#sealed = false;
    await port.reset();
    await port.still("none");
    await this.#verdict.dismiss();
  }

  /**
   * The device parses, checks and loads what has come, in this order. A VMM that is just starting
   * resets its devices: from here on that must not take the state away. What a device is asked for
   * it does in turn, so nothing waits for the answer to what was asked before.
   */
  async validate(): Promise<void> {
    const { port } = this.#parts;
    const sealing = handled(port.seal(true, this.#resets));
    const loading = handled(port.move(MigState.stop));
    this.#sealed = await sealing;
    if (!this.#sealed) throw new FerryError("reset", `the VMM has reset ${port.name} meanwhile.`);
    await this.#intake.finish();
    await loading;
  }

  /** Ends when it is durably decided who has the device; throws when it is the source. */
  async commit(signal: AbortSignal): Promise<void> {
    await this.#verdict.begin();
    goOn(signal);
    // Whoever has ended it meanwhile was told that it is: nobody may hear VALIDATED then.
    goOn(this.cancel);
    if (this.fate !== null) throw new FerryError("no-commit", "it was decided before.");
    this.#verdict.present();
    const why = await this.#hearCommit();
    if (why === null) return;
    const fate = await this.#decideAgainst(signal);
    if (fate !== "own") throw new FerryError("no-commit", why);
  }

  /** Null when it was COMMIT; otherwise why it was not. */
  async #hearCommit(): Promise<string | null> {
    const { clock, budgets } = this;
    const endMs = clock.now() + budgets.commitMs;
    try {
      await this.#talk.send({ say: "validated" });
      const cancel = this.#decided.signal;
      const { token } = await this.#talk.next(["commit"], budgets.commitMs, cancel);
      if (token !== this.#hello.token) return "the source commits to another migration";
      return (await this.decide("own", "protocol")) === "own" ? null : "it was decided before";
    } catch (thrown) {
      // The source may ask, and an operator may decide, after the link is lost.
      const isLost = thrown instanceof FerryError && thrown.code === linkLost;
      if (isLost) await clock.sleep(Math.max(0, endMs - clock.now()), this.#decided.signal);
      return messageOf(thrown);
    }
  }

  /** What cannot be written is not decided: the state is kept, and it is tried again. */
  async #decideAgainst(signal: AbortSignal): Promise<TargetFate | null> {
    const { clock, budgets, tell } = this;
    while (this.fate === null && !signal.aborted) {
      try {
        await this.decide("never", "protocol");
      } catch (thrown) {
        tell({ kind: "note", why: messageOf(thrown) });
        await clock.sleep(budgets.askLastMs, AbortSignal.any([this.#decided.signal, signal]));
      }
    }
    return this.fate;
  }

  /** Nothing is said while it is open who has the device. */
  async #sayNo(sentence: string): Promise<void> {
    if (!this.undecided) await this.#talk.mention({ say: "refuse", sentence });
  }

  /**
   * What does not come here is the source's to know: once it has said that it does, nobody asks
   * after it. What was on its way meanwhile is let pass.
   */
  async hearReleased(): Promise<void> {
    if (this.fate !== "never") return;
    const wait = { what: "the other side's RELEASED", budgetMs: this.budgets.releaseMs };
    await within(this.clock, wait, this.#untilReleased()).then(
      () => this.#verdict.close(),
      () => {},
    );
  }

  async #untilReleased(): Promise<void> {
    for (let say = ""; say !== "released"; ) {
      const next = this.#talk.next(["data", "end", "commit", "released"], endless);
      ({ say } = await next.catch((thrown: unknown) => {
        if (thrown instanceof FerryError && thrown.code === peerAborted) return { say: "abort" };
        throw thrown;
      }));
    }
  }

  async thaw(): Promise<void> {
    this.#waitsForThaw = this.#parts.thaw === "when told";
    if (!this.#waitsForThaw) await this.setGoing();
  }

  /** The device waited for its thaw, and has gone to another host instead. */
  left(): void {
    this.#waitsForThaw = false;
    this.#claimed = false;
    this.#sealed = false;
  }

  /** The device goes on where it stood still on the source. */
  async setGoing(): Promise<void> {
    const { port } = this.#parts;
    try {
      await port.setGoing(this.#sealed ? this.#resets : null);
      this.#waitsForThaw = false;
      this.#sealed = false;
      this.#claimed = false;
    } catch (thrown) {
      this.#trouble = `The device is this host's, but does not run: ${messageOf(thrown)} Reset it.`;
      throw thrown;
    }
  }

  /**
   * Says that the device is here; whether the source hears it changes nothing. Whoever goes on with
   * a device that runs has the processor first: both hosts may share it.
   */
  async own(): Promise<void> {
    const { times: phases, clock, budgets } = this;
    if (!this.#waitsForThaw) await clock.sleep(budgets.ownAfterMs);
    await this.#talk.send({ say: "own", trouble: this.#trouble, phases });
    await this.#talk.next(["released"], this.budgets.releaseMs);
    await this.#verdict.close();
  }

  async #conclude(outcome: Outcome["outcome"], sentence: string): Promise<Outcome> {
    const status = await this.#parts.port.status().catch(() => null);
    const state = status === null ? "unknown" : migStateName(status.state);
    this.tell({ kind: "verdict", outcome, sentence, state, theirs: [] });
    return { outcome, sentence, state, theirs: [] };
  }
}

/** The phase's own budget ends these waits. */
const endless = Number.POSITIVE_INFINITY;
