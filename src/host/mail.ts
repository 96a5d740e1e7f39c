/** What the main thread asks of a device's worker, and what it hears. */
import type { DeviceDescription } from "../device/description.ts";
import type { LineState, Wiring } from "../device/vfio-device.ts";
import type { WriteWatch } from "../memory/guest-memory.ts";
import type { Compatibility } from "../migration/driver.ts";
import type { MigrationStatus, MoveReport, Stillness } from "../migration/port.ts";
import type { ConnectionState } from "../server/connection-state.ts";
import type { Freeze } from "../server/freeze.ts";
import type { MigState } from "../spec/vfio.ts";

/** Which device a worker makes: a module that exports `create(options)`. */
export interface DeviceSpec {
  /** For people and messages: `hello`. */
  readonly name: string;
  /** What `import` takes: a package path or a file URL. */
  readonly module: string;
  readonly options: Readonly<Record<string, string>>;
  /** The migration driver: what `import` takes; unless told, one that fits the device. */
  readonly driver?: string;
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

/** What a device's client has connected, on its way to another device while it is connected. */
export type Lent = Pick<ParkedDevice, "connection" | "wiring">;

/** What is told of a device while it is served. */
export interface DeviceReport {
  readonly device: DeviceDescription;
  readonly connected: boolean;
  readonly frozen: Freeze;
  /** Requests served since the worker started. */
  readonly served: number;
  /** What the device has counted. */
  readonly counters: Readonly<Record<string, number>>;
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
  /** What a client has been told of the device; refused while it could not be lent. */
  offer: { ask: null; answer: Readonly<Record<string, number | boolean>> };
  /** Let the client wait, and tell what it has connected; `resets` is what `status` has said. */
  lend: { ask: { resets: number }; answer: Lent };
  /** Take another device's wiring, without its client yet. */
  wire: { ask: Wiring; answer: null };
  /** Give up the wiring: another device has the client. */
  unwire: { ask: null; answer: null };
  report: { ask: null; answer: DeviceReport };
  /** `DeviceReport.served` alone, for somebody who must not wait. */
  served: { ask: null; answer: number };
  /** Keep the INTx line from being signalled until the migration that is on has come to its end. */
  holdLine: { ask: null; answer: LineState | null };
  stop: { ask: null; answer: null };

  /** The rest is `MigrationPort`'s. */
  compatibility: { ask: null; answer: Compatibility };
  judge: { ask: Compatibility; answer: string | null };
  status: { ask: null; answer: MigrationStatus };
  claim: { ask: null; answer: null };
  release: { ask: null; answer: null };
  still: { ask: { how: Stillness }; answer: null };
  move: { ask: { to: MigState }; answer: MoveReport };
  setGoing: { ask: { resets: number | null }; answer: MoveReport };
  abort: { ask: null; answer: MoveReport };
  watchWrites: { ask: { how: WriteWatch }; answer: null };
  showWrites: { ask: null; answer: number };
  /** The seal itself is in the control words. */
  unseal: { ask: null; answer: null };
  reset: { ask: null; answer: null };
  read: { ask: { room: Uint8Array<ArrayBuffer> }; answer: Uint8Array<ArrayBuffer> };
  write: { ask: { bytes: Uint8Array<ArrayBuffer> }; answer: Uint8Array<ArrayBuffer> };
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
  | {
      readonly kind: "refusal";
      readonly id: number;
      /** As of a FerryError. */
      readonly code: string;
      readonly reason: string;
    };
