/**
 * Messages of MSI that a VMM keeps back. A server sees the guest's masks and holds back what they
 * cover; but one that it had sent before may find the mask in QEMU, which has pending bits of its
 * own, in the capability that it shows the guest. They are read-only: nobody can write them again.
 */
import { Msi64 } from "../spec/pci-capabilities.ts";
import { type Config, registerOf } from "./config-writes.ts";

/** The largest number of vectors that means something, as a power of two [7.7.1.2]. */
const mostEnable = 5;

/** Where the pending bits are, in configuration space, of a guest that masks a vector it uses. */
export function pendingPlace(config: Config): number | null {
  const [control, mask, pending] = (["MESSAGE_CONTROL", "MASK", "PENDING"] as const).map((name) =>
    registerOf(config, "msi", name),
  );
  const { enable, multipleMessageEnable } = Msi64.bits.MESSAGE_CONTROL.unpack(control?.value ?? 0);
  const used = 2 ** (2 ** Math.min(multipleMessageEnable, mostEnable)) - 1;
  const masks = enable && ((mask?.value ?? 0) & used) !== 0;
  return masks && pending !== undefined ? pending.at : null;
}
