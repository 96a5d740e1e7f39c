import { FerryError } from "../../base/errors.ts";
import { MigState } from "../../spec/vfio.ts";
import type { MigrationPort, MigrationStatus } from "../port.ts";
import type { Clock } from "./clock.ts";
import type { Tell } from "./events.ts";
import type { Pace } from "./pace.ts";
import type { Pump } from "./pump.ts";

/** When PRE_COPY is at an end. */
export interface PrecopyPolicy {
  /** False: there is none. */
  readonly precopy: boolean;
  /** Bytes a second while the guest runs; 0 for as much as there is. */
  readonly bandwidth: number;
  /** It has converged when what is left takes no longer than this. */
  readonly downtimeMs: number;
  /** When it has not converged after so many rounds, or so long ... */
  readonly roundsMax: number;
  readonly precopyMaxMs: number;
  /** ... the device is stopped all the same, or the migration is given up. */
  readonly onLimit: "stop" | "abort";
}

/** What holds unless an operator has said otherwise. */
export const defaultPolicy: PrecopyPolicy = {
  precopy: true,
  bandwidth: 0,
  downtimeMs: 300,
  roundsMax: 30,
  precopyMaxMs: 5 * 60_000,
  onLimit: "stop",
};

/** Between two rounds, so that a device that changes all the time is not asked all the time. */
const roundPauseMs = 10;

/** What the rounds need from whoever runs them. */
export interface Rounds {
  readonly port: MigrationPort;
  readonly clock: Clock;
  readonly tell: Tell;
  readonly policy: PrecopyPolicy;
  readonly pace: Pace;
  readonly pump: Pump;
  /** Sends a piece, and looks after the guest between the rounds. */
  send(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  check(): Promise<MigrationStatus>;
}

/** Sends what there is while the guest runs, round after round, until little is left. */
export async function runRounds(rounds: Rounds, signal: AbortSignal): Promise<void> {
  const { port, clock, tell, policy, pace, pump, send, check } = rounds;
  const endMs = clock.now() + policy.precopyMaxMs;
  for (let round = 1; ; round++) {
    await pump.drain({
      read: (room) => port.read(room),
      admit: () => pace.hold(signal),
      pass: (bytes) => {
        pace.spend(bytes.length);
        return send(bytes);
      },
    });
    const status = await check();
    const { rate, bytes } = pace;
    const { dirtyBytes } = status.pending;
    tell({ kind: "progress", bytes, rounds: round, dirtyBytes, rate });
    if (hasConverged(status, rate, policy)) return;
    if (round >= policy.roundsMax || clock.now() >= endMs) return giveUp(policy, round, port.name);
    await clock.sleep(roundPauseMs, signal);
  }
}

function hasConverged(status: MigrationStatus, rate: number, policy: PrecopyPolicy): boolean {
  const { pending, stopCopyBytes } = status;
  if (pending.initialBytes > 0) return false;
  if (pending.dirtyBytes === 0) return true;
  return rate > 0 && ((pending.dirtyBytes + stopCopyBytes) * 1000) / rate <= policy.downtimeMs;
}

function giveUp({ onLimit, downtimeMs }: PrecopyPolicy, rounds: number, device: string): void {
  if (onLimit === "stop") return;
  throw new FerryError(
    "no-convergence",
    `${device} changes faster than it is sent: after ${rounds} rounds more is left than fits ` +
      `into ${downtimeMs} ms. Allow a longer downtime or more bandwidth.`,
  );
}

/** Begins PRE_COPY; false for a device that has none: it has refused, and runs on. */
export async function beginPrecopy(port: MigrationPort): Promise<boolean> {
  try {
    await port.move(MigState.preCopy);
    return true;
  } catch (thrown) {
    if ((await port.status()).state === MigState.running) return false;
    throw thrown;
  }
}
