/** Why a device stays where it is, as errors for its operator. */
import { FerryError } from "../../base/errors.ts";
import { MigState, migStateName } from "../../spec/vfio.ts";
import type { MigrationPort, MigrationStatus } from "../port.ts";

/** Who owns a device's migration, for people. */
export const masterNames: Readonly<Record<MigrationStatus["master"], string>> = {
  none: "nobody",
  vmm: "its VMM",
  operator: "an operator",
};

/** `what` cannot be done with the device now: `be moved`, `take a state`. */
export const busy = (device: string, what: string, why: string): FerryError =>
  new FerryError("busy", `${device} cannot ${what} now: ${why}.`);

/** What a device says of itself that runs and that nobody migrates; any other one is `busy`. */
export async function expectFree(port: MigrationPort, what: string): Promise<MigrationStatus> {
  const status = await port.status();
  const { state, master } = status;
  if (master !== "none") throw busy(port.name, what, `${masterNames[master]} migrates it`);
  if (state !== MigState.running) throw busy(port.name, what, `it is in ${migStateName(state)}`);
  return status;
}

/** A reset that a guest makes is the guest's right, and ends a migration (invariant 7). */
export const guestReset = (device: string): FerryError =>
  new FerryError("guest-reset", `the guest has reset ${device}; it runs on. Start again.`);

/** Nothing can be taken back any more. */
export const tooLate = (): FerryError =>
  new FerryError(
    "too-late",
    "the decision is out: the device may be the target's already. Wait, or resolve it.",
  );

/** vCPUs that run wait for a device that stands still, but not for longer than this. */
export const heldTooLong = (limitMs: number): FerryError =>
  new FerryError(
    "too-late",
    `running vCPUs would have been held for more than ${limitMs} ms. ` +
      "Stop them first: pause before freeze.",
  );
