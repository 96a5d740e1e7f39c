import { FerryError, messageOf } from "../../base/errors.ts";
import { handled } from "../../base/handled.ts";
import { MigState, migStateName } from "../../spec/vfio.ts";
import type { MigrationStatus } from "../port.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import { type Conversation, peerRefused } from "./conversation.ts";
import type { Outcome, Tell } from "./events.ts";
import { greet } from "./greeting.ts";
import { HandOver, type Settlement } from "./hand-over.ts";
import type { JournalRecord } from "./journal.ts";
import { dataBytesMax, type PhaseTime } from "./link-messages.ts";
import { Pace } from "./pace.ts";
import { Pauses } from "./pause.ts";
import { goOn, type Phase, runPhases, type Stage, tidyUp, undoPhases } from "./phases.ts";
import { beginPrecopy, runRounds } from "./precopy.ts";
import { Progress } from "./progress.ts";
import { Pump } from "./pump.ts";
import { expectFree, guestReset, heldTooLong, tooLate } from "./refusals.ts";
import type { SourceParts, SourceRequest } from "./source-parts.ts";

/** The life of a migration on its source. All but the last can be undone; the last one decides. */
const phases: ReadonlyArray<Phase<Source>> = [
  { name: "precheck", budget: "greetMs", run: (s, on) => s.precheck(on), undo: (s) => s.letGo() },
  { name: "precopy", budget: "precopyMs", run: (s, on) => s.precopy(on), undo: (s) => s.goBack() },
  { name: "freeze", budget: "freezeMs", run: (s) => s.freeze(), undo: (s) => s.unfreeze() },
  { name: "save", budget: "saveMs", run: (s) => s.save(), undo: (s) => s.goBack() },
  { name: "transfer", budget: "transferMs", run: (s, on) => s.transfer(on), undo: null },
  { name: "hand over", budget: null, run: (s, on) => s.handOver(on), undo: (s) => s.unseal() },
];

/** Where a device may be in a migration that is not known to be anywhere else. */
const kept: ReadonlyArray<Phase<Source>> = phases.toReversed();

/** One device on its way to another host: the side that has it. */
export class Source implements Stage {
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly tell: Tell;
  readonly times: PhaseTime[] = [];
  readonly startMs: number;
  readonly #parts: SourceParts;
  readonly #request: SourceRequest;
  readonly #cancel = new AbortController();
  readonly #pauses: Pauses;
  readonly #handOver: HandOver;
  readonly #pace: Pace;
  readonly #progress: Progress;
  readonly #pump = new Pump(dataBytesMax);
  #conversation: Conversation | null = null;
  #claimed = false;
  /** The device on its way to STOP_COPY, from when it was asked to until it is taken back. */
  #saving: Promise<unknown> | null = null;
  #sealed = false;
  #dropped: boolean;
  /** From here on the other side may have it: there is no way back but its word. */
  #decided = false;
  #settlement: Settlement | null = null;
  #resets = 0;
  /** Why it did not move. */
  #why = "";
  #rounds = 0;

  constructor(parts: SourceParts, request: SourceRequest) {
    const { clock, budgets, tell, port } = parts;
    const { token, peer, address, pki } = request;
    this.#parts = parts;
    this.#request = request;
    this.clock = clock;
    this.budgets = budgets;
    this.tell = tell;
    this.startMs = clock.now();
    this.#dropped = request.vcpusStopped;
    this.#pauses = new Pauses(request.pauseBefore);
    this.#pace = new Pace(clock, request.policy.bandwidth);
    this.#progress = new Progress(clock, budgets, tell, this.#pace);
    const identity = { token, device: port.name, peer, address, pki };
    this.#handOver = new HandOver({ ...parts, dial: () => parts.dial(), token, identity });
  }

  get cancel(): AbortSignal {
    return this.#cancel.signal;
  }

  /** The phase that waits to be continued; null when none does. */
  get paused(): string | null {
    return this.#pauses.standing;
  }

  get undecided(): boolean {
    return this.#handOver.undecided;
  }

  get bytes(): number {
    return this.#pace.bytes;
  }

  /** Moves the device, or brings it back; says what came of it. It never rejects. */
  async run(): Promise<Outcome> {
    let keeping = Promise.resolve(false);
    try {
      await runPhases(phases, this, {
        before: (phase) => this.#pause(phase),
        failed: async (thrown) => {
          this.#why = await this.#causeOf(thrown);
          await this.#sayAbort(this.#why);
          // By the time that the device runs it is written down, if it can be.
          keeping = handled(this.#handOver.takeBack());
        },
      });
    } catch {
      if (await keeping) await this.#sayReleased();
      this.#hangUp();
      return await this.#conclude("kept", `The device stays here: ${this.#why}`);
    }
    return await this.#concludeDecided();
  }

  /** What fails after a reset of the guest's, a read for instance, fails because of it. */
  async #causeOf(thrown: unknown): Promise<string> {
    const { name } = this.#parts.port;
    const asks = this.#claimed && !this.#decided;
    const status = asks ? await this.#parts.port.status().catch(() => null) : null;
    const wasReset = status !== null && status.resets !== this.#resets;
    return messageOf(wasReset ? guestReset(name) : thrown);
  }

  /** vCPUs that stand still already wait for everything that is done here. */
  async #pause(phase: string): Promise<void> {
    const waits = this.#dropped && !this.#pauses.awaits(phase);
    if (phase === "freeze" && !waits) this.#parts.sweep();
    if (!this.#pauses.has(phase)) return;
    if (this.#pauses.awaits(phase)) {
      const cancel = AbortSignal.any([this.cancel, this.#conversation?.over ?? this.cancel]);
      await this.#pauses.stand(phase, this, cancel);
    }
    if (phase === "freeze") this.#dropped = true;
  }

  /** A source that has said COMMIT says no ABORT. */
  async #sayAbort(reason: string): Promise<void> {
    if (!this.#decided) await this.#conversation?.mention({ say: "abort", reason });
  }

  /** The last word: what has become of the device is written down, and nobody will ask for it. */
  async #sayReleased(): Promise<void> {
    const talk = this.#settlement?.conversation ?? this.#conversation;
    await talk?.mention({ say: "released", token: this.#request.token });
  }

  /** After a restart: the journal says `deciding`. Stands still until the sides have met. */
  async meet(record: JournalRecord): Promise<Outcome> {
    const { port } = this.#parts;
    this.#decided = true;
    await port.claim();
    this.#claimed = true;
    await port.still("drop");
    this.#resets = (await port.status()).resets;
    this.#sealed = await port.seal(true, this.#resets);
    const why = `this process was restarted when ${record.device} was about to move`;
    this.#settlement = await this.#handOver.meet(why);
    if (this.#settlement?.fate === "never") {
      const { sentence } = this.#settlement;
      await undoPhases(kept, this);
      await this.#sayReleased();
      this.#hangUp();
      return await this.#conclude("kept", `The device stays here. ${diedSince} ${sentence}`.trim());
    }
    await this.#leave();
    // Whoever is connected has come since: it never had what has gone.
    if (this.#settlement !== null) await port.still("none");
    return await this.#concludeDecided();
  }

  /** Goes on after a pause, or does not make the one before this phase. */
  continue(before = ""): void {
    this.#pauses.continue(before);
  }

  /** Ends it and brings the device back; refused once the other side may have it. */
  abort(reason: string): void {
    if (this.#decided) throw tooLate();
    this.#cancel.abort(new FerryError("cancelled", reason));
  }

  /** An operator says who has the device when the sides cannot meet. */
  resolve(owner: "here" | "there"): void {
    this.#handOver.resolve(owner === "here" ? "never" : "own");
  }

  /** The process ends: asks no more, and leaves the decision to the next one. */
  halt(): void {
    this.#handOver.halt();
    if (!this.#decided) this.#cancel.abort(new FerryError("cancelled", "the process ends."));
  }

  get #talk(): Conversation {
    if (this.#conversation === null) throw new FerryError("link-lost", "there is no link.");
    return this.#conversation;
  }

  /** The reset that a guest makes is the guest's right: then nothing is moved (invariant 7). */
  async #check(): Promise<MigrationStatus> {
    const status = await this.#parts.port.status();
    if (status.resets === this.#resets) return status;
    throw guestReset(this.#parts.port.name);
  }

  async precheck(signal: AbortSignal): Promise<void> {
    const { port } = this.#parts;
    const { resets } = await expectFree(port, "be moved");
    this.#resets = resets;
    await port.claim();
    this.#claimed = true;
    goOn(signal);
    const { token } = this.#request;
    const parts = { ...this.#parts, dial: () => this.#parts.dial(), token };
    this.#conversation = await greet(parts, "migrate", signal);
  }

  /** Undoes `precheck`. */
  async letGo(): Promise<void> {
    if (this.#claimed) await this.#parts.port.release();
    this.#claimed = false;
  }

  #hangUp(): void {
    const conversation = this.#settlement?.conversation ?? this.#conversation;
    conversation?.close();
    this.#conversation?.close();
  }

  async precopy(signal: AbortSignal): Promise<void> {
    const { port, clock, tell } = this.#parts;
    const { policy } = this.#request;
    if (!policy.precopy) return;
    if (!(await beginPrecopy(port))) {
      tell({ kind: "note", why: `${port.name} has no PRE_COPY; it is sent when it stands still` });
      return;
    }
    goOn(signal);
    const pace = this.#pace;
    const check = async (): Promise<MigrationStatus> => {
      goOn(signal);
      this.#rounds += 1;
      return await this.#check();
    };
    const send = (bytes: Uint8Array<ArrayBuffer>): Promise<void> => this.#send(bytes, signal);
    await runRounds({ port, clock, tell, policy, pace, pump: this.#pump, send, check }, signal);
  }

  async #send(bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
    goOn(signal);
    await this.#talk.send({ say: "data", bytes });
  }

  /** What a device is asked for it does in turn: what comes next is asked for already. */
  async freeze(): Promise<void> {
    const { port, clock, budgets } = this.#parts;
    const stands = port.still(this.#dropped ? "drop" : "hold");
    this.#saving = handled(port.move(MigState.stopCopy));
    this.#pump.begin((room) => port.read(room));
    await stands;
    if (!this.#dropped) clock.after(budgets.holdMs, () => this.#holdEnds());
  }

  /** vCPUs that wait for a register wait for the whole guest. */
  #holdEnds(): void {
    if (this.#decided || this.cancel.aborted) return;
    this.#cancel.abort(heldTooLong(this.budgets.holdMs));
  }

  async unfreeze(): Promise<void> {
    if (this.#saving !== null) await this.goBack();
    await this.#parts.port.still("none");
  }

  async save(): Promise<void> {
    await this.#saving;
  }

  /** Undoes `save` and `precopy`. */
  async goBack(): Promise<void> {
    this.#saving = null;
    await this.#parts.port.abort();
  }

  async transfer(signal: AbortSignal): Promise<void> {
    const { port, budgets } = this.#parts;
    await this.#pump.drain({
      read: (room) => port.read(room),
      pass: async (bytes) => {
        await this.#send(bytes, signal);
        this.#pace.count(bytes.length);
        this.#progress.passes(this.#rounds);
      },
    });
    goOn(signal);
    await this.#talk.send({ say: "end", bytes: this.bytes });
    // Once it was given up, `kept` is being written: nothing is noted behind that.
    goOn(signal);
    this.#handOver.prepare();
    await this.#talk.next(["validated"], budgets.transferMs, signal);
  }

  /**
   * Until COMMIT is said there is a way back, whatever the device or the disk does. From `#decided`
   * on a cancellation is refused, so nothing takes this phase apart.
   */
  async handOver(signal: AbortSignal): Promise<void> {
    const { clock, budgets } = this.#parts;
    goOn(signal);
    const wait = { what: "sealing the device and its record", budgetMs: budgets.saveMs };
    await within(clock, { ...wait, cancel: signal }, handled(this.#seal()));
    goOn(signal);
    this.#decided = true;
    this.#settlement = await this.#handOver.decide(this.#talk);
    if (this.#settlement?.fate === "never") {
      throw new FerryError(peerRefused, this.#settlement.sentence);
    }
    await this.#leave();
  }

  async #seal(): Promise<void> {
    const { port } = this.#parts;
    this.#sealed = true;
    if (!(await port.seal(true, this.#resets))) throw guestReset(port.name);
    await this.#handOver.prepared;
  }

  async unseal(): Promise<void> {
    if (this.#sealed) await this.#parts.port.seal(false, this.#resets);
    this.#sealed = false;
  }

  /**
   * The device is the target's: what is left here is made clean, whatever of it can be. Accesses of
   * vCPUs that were not stopped stay held: an answer from here would be a lie, and a doorbell lost.
   */
  async #leave(): Promise<void> {
    const { port, tell } = this.#parts;
    if (this.#settlement === null) return;
    const steps = [
      () => this.#sayReleased(),
      async () => (this.#dropped ? port.still("drop") : null),
      () => port.reset(),
      async () => (this.#sealed ? port.seal(false, 0) : null),
      () => port.release(),
    ];
    await tidyUp(steps, tell);
    this.#hangUp();
  }

  async #concludeDecided(): Promise<Outcome> {
    if (this.#settlement === null) {
      return await this.#conclude(
        "open",
        "The process ends before it is known who has the device.",
      );
    }
    const { sentence, by } = this.#settlement;
    const moved = by === "operator" ? "moved, as an operator has said" : "moved";
    return await this.#conclude("moved", `The device has ${moved}. ${sentence}`.trim());
  }

  async #conclude(outcome: Outcome["outcome"], sentence: string): Promise<Outcome> {
    const theirs = this.#settlement?.theirs ?? [];
    const status = await this.#parts.port.status().catch(() => null);
    const state = status === null ? "unknown" : migStateName(status.state);
    this.tell({ kind: "verdict", outcome, sentence, state, theirs });
    return { outcome, sentence, state, theirs };
  }
}

const diedSince = "This process was restarted since; what the device was doing may be lost.";
