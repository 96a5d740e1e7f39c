import { askControl, ControlLine, type ControlRequest } from "../../host/control-line.ts";
import type { MigrationEvent } from "../../migration/hosts/events.ts";
import type { Report } from "../../migration/hosts/report.ts";
import type { Berth, HostPlan } from "./messages.ts";

const controlMs = 30_000;

interface Offer {
  readonly token: string;
  readonly address: string;
}

/**
 * Where a VMM has something to do: stop its vCPUs, copy the rest of its memory now that the device
 * writes nothing more, say that the memory is there, let its vCPUs go on.
 */
export type Milestone = Pause | "save" | "running";
type Pause = "freeze" | "hand over";

const hasEnded = (told: MigrationEvent, phase: string): boolean =>
  told.kind === "phase" && told.phase === phase && told.step === "ends";

/** One device's migration as its VMM sees it: it stands at each pause until it is told to go on. */
export class Crossing {
  readonly #from: Berth;
  readonly #control: ControlLine;
  readonly #done: Promise<unknown>;
  readonly #reached = new Set<Milestone>();
  #ended = false;
  #wake: () => void = () => {};

  private constructor(from: Berth, to: Berth, control: ControlLine, request: ControlRequest) {
    this.#from = from;
    this.#control = control;
    this.#follow(to);
    this.#done = askControl(from.control, request, {
      hear: (event) => {
        const told = event as MigrationEvent;
        if (told.kind === "paused") this.#reach(told.before as Milestone);
        else if (hasEnded(told, "save")) this.#reach("save");
      },
    });
    const end = (): void => {
      this.#ended = true;
      control.close();
      this.#wake();
    };
    this.#done.then(end, end);
  }

  /** Puts device `index` on offer at one host, and has the other one send it. */
  static async begin(from: HostPlan, to: HostPlan, index: number): Promise<Crossing> {
    const [source, target] = [from.berths[index] as Berth, to.berths[index] as Berth];
    const offering = {
      method: "migrate-offer",
      device: target.socket,
      from: from.name,
      listen: target.address,
      pki: to.pki,
    };
    const { token, address } = (await askControl(target.control, offering, {
      timeoutMs: controlMs,
    })) as Offer;
    const control = ControlLine.open(source.control);
    return new Crossing(source, target, control, {
      method: "migrate",
      ...{ device: source.socket, to: address, token, pki: from.pki, peer: to.name },
      pauseBefore: ["freeze", "hand over"],
    });
  }

  /** The target says when the device runs there; the source only has to be told. */
  #follow(to: Berth): void {
    const request = { method: "migrate-events", device: to.socket };
    const following = new AbortController();
    const hear = (event: unknown): void => {
      const told = event as MigrationEvent;
      if (!hasEnded(told, "thaw")) return;
      this.#reach("running");
      following.abort();
    };
    askControl(to.control, request, { hear, enough: following.signal }).catch(() => {});
  }

  #reach(milestone: Milestone): void {
    this.#reached.add(milestone);
    this.#wake();
  }

  /** Done when the migration has come so far, or has ended before. */
  async reaches(milestone: Milestone): Promise<void> {
    while (!this.#reached.has(milestone) && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Ends the pause that is on; or the one before this phase, which need not have come. */
  async goOn(before: Pause | "" = ""): Promise<void> {
    if (this.#ended) return;
    const request = { method: "migrate-continue", device: this.#from.socket, before };
    await this.#control.ask(request);
  }

  /** Does the device run on the target? */
  get arrived(): boolean {
    return this.#reached.has("running");
  }

  /** What the source says in the end. */
  async report(): Promise<Report> {
    return ((await this.#done) as { readonly report: Report }).report;
  }
}
