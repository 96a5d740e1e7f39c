/** What every guest does, whatever its device is. */
import * as raw from "../src/client/raw-requests.ts";
import { ConfigHeader } from "../src/spec/pci.ts";
import { MigState, PciRegion } from "../src/spec/vfio.ts";
import type { Guest } from "./guest.ts";

/** Something that a guest does, and that must come of it. */
export interface Act<G extends Guest> {
  readonly name: string;
  readonly run: (guest: G) => Promise<void>;
  /** It is also done at the very end, to see that the device still serves. */
  readonly lasts?: true;
  /** It is answered at once also by a device that stands still. */
  readonly disturbs?: true;
}

/** A VMM that wants to migrate the device itself: it may, unless the operator does. */
async function setState(guest: Guest): Promise<void> {
  guest.world.trip?.excuse("the VMM migrates it");
  guest.hasStopped = true;
  for (const state of [MigState.stop, MigState.running]) {
    await guest.ask(raw.setMigState(state));
    guest.touch();
  }
  guest.hasStopped = false;
}

/** Asks for a function-level reset, in the second byte of PCI Express' device control. */
const flr = (deviceControlAt: number): raw.RawRequest =>
  raw.regionWrite(PciRegion.config, deviceControlAt + 1, Uint8Array.of(0x80));

const configRead = raw.regionRead(PciRegion.config, ConfigHeader.at.VENDOR_ID, 4);

/** `deviceControlAt` is where the device has this register in configuration space. */
export const commonActs = (deviceControlAt: number): readonly Act<Guest>[] => [
  { name: "sets a migration state", run: setState, disturbs: true },
  {
    name: "reads migration data",
    run: async (guest) => void (await guest.ask(raw.migDataRead(64))),
  },
  { name: "resets", run: (guest) => guest.reset(raw.deviceReset()), disturbs: true },
  { name: "starts an FLR", run: (guest) => guest.reset(flr(deviceControlAt)), disturbs: true },
  { name: "reads its configuration", run: async (guest) => void (await guest.ask(configRead)) },
];

/** Names for a table of moments. */
export const namesOf = (acts: readonly { readonly name: string }[]): string[] =>
  acts.map(({ name }) => name);
