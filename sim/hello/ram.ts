import { GuestRam } from "../../src/client/guest-ram.ts";

/** The memory of a guest of a hello device. */
export const ram = new GuestRam(64 * 1024);
