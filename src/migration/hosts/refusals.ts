/** Why a device stays where it is, as errors for its operator. */
import { FerryError } from "../../base/errors.ts";

export const busy = (device: string, why: string): FerryError =>
  new FerryError("busy", `${device} cannot be moved now: ${why}.`);

export const guestReset = (device: string): FerryError =>
  new FerryError("guest-reset", `the guest has reset ${device}; it runs on. Start again.`);

export const tooLate = (): FerryError =>
  new FerryError(
    "too-late",
    "the decision is out: the device may be the target's already. Wait, or resolve it.",
  );

export const heldTooLong = (limitMs: number): FerryError =>
  new FerryError(
    "too-late",
    `running vCPUs would have been held for more than ${limitMs} ms. ` +
      "Stop them first: pause before freeze.",
  );
