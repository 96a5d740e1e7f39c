/**
 * The INTx line of a device whose VM moves. QEMU counts with the bus how many lines are up, and the
 * count goes with the VM; whether this device's is among them it keeps with the device, which does
 * not go. A line that is up when the VM goes is up there for good: nobody can lower it, and the
 * guest is interrupted for ever. So it is lowered before, which QEMU does at any access to a BAR,
 * and the server, which holds it back from then on, raises it again where the device runs.
 */
import { FerryError } from "../base/errors.ts";
import { ConfigHeader, InterruptPin } from "../spec/pci.ts";
import { Msi64, Msix } from "../spec/pci-capabilities.ts";
import { type Config, registerOf } from "./config-writes.ts";
import { type DeviceServer, holdLine, probe } from "./device-server.ts";
import { barAddress } from "./pci-place.ts";
import type { Qemu } from "./qemu.ts";

/** QEMU hears of a signal in a turn of its loop, and has one for each access. */
const turnsMax = 4;

/** Does the function have a line at all? */
export const hasLine = (config: Config): boolean =>
  (registerOf(config, "", "INTERRUPT_PIN")?.value ?? InterruptPin.none) !== InterruptPin.none;

/** Does it interrupt by its line, as the guest has set it up? */
function usesLine(config: Config): boolean {
  const [command, msi, msix] = (
    [
      ["", "COMMAND"],
      ["msi", "MESSAGE_CONTROL"],
      ["msix", "MESSAGE_CONTROL"],
    ] as const
  ).map(([capability, name]) => registerOf(config, capability, name)?.value ?? 0);
  return !(
    ConfigHeader.bits.COMMAND.unpack(command as number).interruptDisable ||
    Msi64.bits.MESSAGE_CONTROL.unpack(msi as number).enable ||
    Msix.bits.MESSAGE_CONTROL.unpack(msix as number).enable
  );
}

/** Lowers the line of the function `id`, whose vCPUs stand still; throws where it stays up. */
export async function lowerLine(id: string, server: DeviceServer, qemu: Qemu): Promise<void> {
  let line = await holdLine(server);
  if (line === null) {
    const { config } = await probe(server);
    if (usesLine(config)) throw cannotMove(id, "nobody knows how its line is", useMessages);
    return;
  }
  for (let turn = 0; line?.up === true && turn < turnsMax; turn++) {
    const [place] = await qemu.findFunctions([id]);
    if (line.quiet === "none" || place === undefined) break;
    const at = barAddress(place, line.quiet.bar, line.quiet.offset);
    if (at < 0) break;
    await qemu.readWords(at, 1);
    line = await holdLine(server);
  }
  if (line?.up === true) throw cannotMove(id, "its interrupt line is up");
}

/** What helps where nobody can tell how a line is. */
const useMessages = "Have the guest use MSI or MSI-X.";

const cannotMove = (id: string, why: string, hint = "Try again."): FerryError =>
  new FerryError("pending", `${id} cannot move now: ${why}. ${hint}`);
