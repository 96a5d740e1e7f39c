/** A `ferry serve` as whoever migrates a VM asks it, by its control socket. */
import { FerryError } from "../base/errors.ts";
import {
  askControl,
  ControlLine,
  type ControlRequest,
  controlOf,
  type Hear,
} from "../host/control-line.ts";
import { compatibility } from "../migration/hosts/link-messages.ts";
import * as s from "../migration/hosts/shapes.ts";
import { type Config, configShape } from "./config-writes.ts";

/** How long a server may take to answer something short, in milliseconds: a VM may wait for it. */
const answerMs = 5000;

/** One device of one server, and the line on which it is asked. */
export class DeviceServer {
  /** For people: the socket that it serves. */
  readonly path: string;
  readonly #control: string;
  readonly #device: string | undefined;
  readonly #answerMs: number;
  /** Open before anything has to be quick. */
  #line: ControlLine;
  readonly #closed = new AbortController();

  /** `limitMs` is for an answer to something short. */
  constructor(path: string, limitMs = answerMs) {
    const { control, device } = controlOf(path);
    this.path = path;
    this.#control = control;
    this.#device = device;
    this.#answerMs = limitMs;
    this.#line = ControlLine.open(control, limitMs);
  }

  /** Asks something short; one question at a time. One that was late before is asked anew. */
  async ask(call: ControlRequest): Promise<unknown> {
    if (this.#line.failed) this.#line = ControlLine.open(this.#control, this.#answerMs);
    return await this.#line.ask({ ...call, device: this.#device });
  }

  /** Asks for something that takes its time; hears how it goes until the signal is given. */
  async follow(call: ControlRequest, hear: Hear, enough?: AbortSignal): Promise<unknown> {
    const request = { ...call, device: this.#device };
    const signals = [this.#closed.signal, ...(enough === undefined ? [] : [enough])];
    return await askControl(this.#control, request, { hear, enough: AbortSignal.any(signals) });
  }

  /** Whatever was asked for goes on, and nobody hears of it: an undecided migration has no end. */
  close(): void {
    this.#closed.abort();
    this.#line.close();
  }
}

const probeShape = s.object({
  devices: s.list(
    s.object({
      connected: s.flag,
      served: s.whole(),
      device: s.object({ config: configShape }),
    }),
    1,
  ),
});

/** A served device as its server describes it. */
export interface Probe {
  readonly config: Config;
  readonly connected: boolean;
  /** Requests of its VMM so far. */
  readonly served: number;
}

/** What `probe` has answered of one device; undefined when that makes no sense. */
function readProbe(answer: unknown): Probe | undefined {
  const [only] = probeShape(answer)?.devices ?? [];
  if (only === undefined) return undefined;
  const { connected, served, device } = only;
  return { config: device.config, connected, served };
}

/** Asks a server that serves one device what it is. */
export async function probe(server: DeviceServer): Promise<Probe> {
  const read = readProbe(await server.ask({ method: "probe" }));
  if (read !== undefined) return read;
  throw new FerryError("bad-answer", `${server.path} does not describe one device.`);
}

const servedShape = s.object({ served: s.list(s.whole(), 1) });

/** How many requests of its VMM a server of one device has served so far. */
export async function servedBy(server: DeviceServer): Promise<number> {
  const [served] = servedShape(await server.ask({ method: "served" }))?.served ?? [];
  if (served !== undefined) return served;
  throw new FerryError("bad-answer", `${server.path} does not tell what it has served.`);
}

const lineShape = s.object({
  line: s.either(
    (value) => (value === null ? "unknown" : undefined),
    s.object({
      up: s.flag,
      quiet: s.either(
        (value) => (value === null ? "none" : undefined),
        s.object({ bar: s.whole(5), offset: s.whole() }),
      ),
    }),
  ),
});
type Line = Exclude<s.Read<typeof lineShape>["line"], "unknown">;

/**
 * Has a server keep its device's interrupt line from being signalled until the migration that is on
 * has come to its end. Tells how the line is; null when the server does not know.
 */
export async function holdLine(server: DeviceServer): Promise<Line | null> {
  const read = lineShape(await server.ask({ method: "hold-line" }));
  if (read === undefined) {
    throw new FerryError("bad-answer", `${server.path} does not tell how its interrupt line is.`);
  }
  return read.line === "unknown" ? null : read.line;
}

const statusShape = s.object({
  compatibility,
  port: s.object({ master: s.oneOf("none", "vmm", "operator") }),
  offers: s.whole(),
  migration: s.either(
    (value) => (value === null ? { report: { outcome: true } } : undefined),
    s.object({ report: s.object({ outcome: (value) => value !== null }) }),
  ),
});

/** How a device's server would move it: with which driver, and whether it is free to. */
export interface MoveStatus {
  readonly driver: string;
  readonly version: number;
  readonly master: "none" | "vmm" | "operator";
  /** It is on offer, or a migration has not come to its end. */
  readonly isOpen: boolean;
}

/** What `migrate-status` has answered; undefined when that makes no sense. */
export function readStatus(answer: unknown): MoveStatus | undefined {
  const read = statusShape(answer);
  if (read === undefined) return undefined;
  const { compatibility: of, port, offers, migration } = read;
  const isOpen = offers > 0 || !migration.report.outcome;
  return { driver: of.driver, version: of.version, master: port.master, isOpen };
}

export const offerShape = s.object({ token: s.text(64), address: s.text(1024) });

/** How a migration of a device ended, as far as the VM's depends on it. */
export const finishedShape = s.object({
  outcome: s.oneOf("moved", "kept", "open"),
  sentence: s.sentence,
});

/** Of a server's status: the migration that goes on, or the last one; its end, once it has one. */
export const endShape = s.object({
  migration: s.object({
    report: s.object({
      outcome: s.either<s.Read<typeof finishedShape>, "none">(finishedShape, (value) =>
        value === null ? "none" : undefined,
      ),
    }),
  }),
});

export const pausedShape = s.object({ kind: s.oneOf("paused"), before: s.text(64) });
export const phaseShape = s.object({ kind: s.oneOf("phase"), phase: s.text(64), step: s.text(64) });
export const noteShape = s.object({ kind: s.oneOf("note"), why: s.sentence });
