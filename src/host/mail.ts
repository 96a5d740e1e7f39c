/** What the main thread asks of a device's worker, and what it hears. */
import type { DeviceDescription } from "../device/description.ts";
import type { Wiring } from "../device/vfio-device.ts";
import type { Freeze } from "../server/freeze.ts";
import type { ConnectionState } from "../server/session.ts";

/** Which device a worker makes: a module that exports `create(options)`. */
export interface DeviceSpec {
  /** For people and messages: `hello`. */
  readonly name: string;
  /** What `import` takes: a package path or a file URL. */
  readonly module: string;
  readonly options: Readonly<Record<string, string>>;
}

/** What a worker starts with. */
export interface WorkerStart {
  readonly spec: DeviceSpec;
  readonly words: Int32Array<SharedArrayBuffer>;
}

/** A device at rest: everything that another process needs to go on. */
export interface ParkedDevice {
  /** Null when no client is connected. */
  readonly connection: ConnectionState | null;
  /** Null when no client is connected. */
  readonly wiring: Wiring | null;
  readonly state: Uint8Array;
}

/** What is told of a device while it is served. */
export interface DeviceReport {
  readonly device: DeviceDescription;
  readonly connected: boolean;
  readonly frozen: Freeze;
  /** Requests served since the worker started. */
  readonly served: number;
}

/** Requests by name, with what they carry and what they are answered with. */
export interface Requests {
  /** Serve a connection whose first bytes were already received. */
  open: { ask: { fd: number; unparsed: Uint8Array<ArrayBuffer> }; answer: null };
  /** Take a parked device's wiring and state, without its client yet. */
  install: { ask: Pick<ParkedDevice, "wiring" | "state">; answer: null };
  /** Go on with the client of the device that was installed. */
  resume: { ask: ConnectionState; answer: null };
  freeze: { ask: { mode: Freeze }; answer: null };
  park: { ask: null; answer: ParkedDevice };
  report: { ask: null; answer: DeviceReport };
  stop: { ask: null; answer: null };
}

/** A request on its way to the worker. */
export type Letter = {
  [K in keyof Requests]: { readonly id: number; readonly op: K; readonly ask: Requests[K]["ask"] };
}[keyof Requests];

/**
 * What a worker tells: ready to serve, not able to, the client has gone, or the answer to a letter.
 */
export type Notice =
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly code: string; readonly reason: string }
  | { readonly kind: "ended" }
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly reason: string };
