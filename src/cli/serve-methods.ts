/** What the control socket of `ferry serve` answers. */
import { FerryError, messageOf } from "../base/errors.ts";
import type { Method } from "../host/control-socket.ts";
import { findBerth, type Host } from "../host/host.ts";
import { migrationMethods } from "../host/migration-methods.ts";
import type { Migrations, TellDevice } from "../host/migrations.ts";
import type { ServedDevice } from "../host/served-device.ts";
import { swapMethods } from "../host/swap-methods.ts";
import { exitProcess } from "../sys/libc.ts";
import type { Log } from "./log.ts";
import { leave, ownManifest, type Succeeding } from "./succeeding.ts";

/** What a process serves, and with what. */
export interface Served {
  readonly host: Host;
  readonly migrations: Migrations;
  readonly log: Log;
  readonly succeeding: Succeeding | null;
  readonly options: { readonly journal?: string | undefined; readonly json?: boolean };
  /** Why no successor can have it; null when one can. */
  readonly stays: string | null;
}

/** Methods by the names that they are asked by. */
export type Methods = Readonly<Record<string, Method>>;

/** Tells a log what becomes of each device; progress is for who debugs. */
export const tellOf =
  (log: Log, what: string): TellDevice =>
  (device, { kind, atMs: _, ...event }) =>
    log[kind === "progress" ? "debug" : "info"]({ device, ...event }, `${what}: ${kind}`);

/** The same methods, each behind a check that throws why it cannot be asked now. */
function behind(check: () => void, methods: Methods): Methods {
  const kept = ([name, method]: [string, Method]): [string, Method] => [
    name,
    async (...asked) => {
      check();
      return await method(...asked);
    },
  ];
  return Object.fromEntries(Object.entries(methods).map(kept));
}

/**
 * `probe` and `served` tell of the devices, `hold-line` is for who moves their VM; `manifest` and
 * `hand-over` are for a successor.
 */
export function serveMethods(path: string, served: Served): Methods {
  const { host, migrations, log, succeeding, options } = served;
  let isLeaving = false;
  const wanted = (path: unknown): ServedDevice[] =>
    host.berths
      .filter(({ socketPath }) => path === undefined || socketPath === path)
      .map(({ device }) => device);
  const expectHere = (): void => {
    if (isLeaving) throw new FerryError("busy", "a successor is taking over; ask it.");
  };
  const ofDevices = {
    ...migrationMethods((device) => migrations.find(device)),
    ...swapMethods(host, path, tellOf(log, "swap")),
  };
  return {
    ...behind(expectHere, ofDevices),
    probe: async ({ device }) => ({
      devices: await Promise.all(wanted(device).map((each) => each.report())),
    }),
    served: async ({ device }) => ({
      served: await Promise.all(wanted(device).map((each) => each.served())),
    }),
    "hold-line": async ({ device }) => ({
      line: await findBerth(host.berths, device).device.holdLine(),
    }),
    manifest: async () => {
      if (served.stays !== null) throw new FerryError("busy", served.stays);
      return { ...ownManifest(host.berths, options), succession: succeeding?.succession ?? null };
    },
    "hand-over": async (request) => {
      expectHere();
      isLeaving = true;
      try {
        const successor = await leave(host, migrations, request);
        log.info({ successor }, "handed over to a successor");
        return exitProcess(0);
      } catch (thrown) {
        isLeaving = false;
        log.warn(`not handed over: ${messageOf(thrown)}`);
        throw thrown;
      }
    },
  };
}
