/** What a driver must know of a function before it does anything with it. */
import { crc32 } from "node:zlib";
import { FerryError } from "../../../base/errors.ts";
import type { VfioDevice } from "../../../device/vfio-device.ts";
import { HpreSqe, hpreDeviceId } from "../../../spec/hisi-hpre.ts";
import { engineCapabilities, hisiVendor, Qm, qmBar, qmBarBytes } from "../../../spec/hisi-qm.ts";
import { Bd3, sec2DeviceId } from "../../../spec/hisi-sec2.ts";
import { ZipSqe, zipDeviceId } from "../../../spec/hisi-zip.ts";
import type { Compatibility } from "../../driver.ts";
import { identityOf, shapeOf } from "../../identity.ts";
import type { Planes } from "../../planes.ts";
import { askPf, brokerOf, type PfBroker, type PfFacts } from "./pf-broker.ts";

/** The engines, by PCI device id of their VFs: bytes of an SQ entry. */
const engines: ReadonlyMap<number, number> = new Map([
  [sec2DeviceId, Bd3.size],
  [zipDeviceId, ZipSqe.size],
  [hpreDeviceId, HpreSqe.size],
]);

/** PCI vendor and device ids of what the driver is for. */
export const ids = [...engines.keys()].map((device) => [hisiVendor, device] as const);

/** Of the driver's sections. */
const version = 1;
const oldestVersion = 1;

/** What stays the same for as long as there is the function. */
export interface KnownFunction {
  readonly broker: PfBroker;
  readonly facts: PfFacts;
  readonly deviceId: number;
  /** log2 of an SQ entry's bytes. */
  readonly sqeShift: number;
  readonly compatibility: Compatibility;
}

/** CRC-32 of the registers that tell drivers what there is: a guest's has gone by them. */
function capabilitiesOf(control: VfioDevice): string {
  const first = Qm.at.FUNC_CAPS;
  const bytes = new Uint8Array(engineCapabilities.last + 4 - first);
  control.read(qmBar, first, bytes, 0, bytes.length);
  return `0x${crc32(bytes).toString(16).padStart(8, "0")}`;
}

/** Asks the PF and looks at what cannot change; a FerryError says what the planes lack. */
export function knownFunction({ guest, control, broker: given }: Planes): KnownFunction {
  const { name } = guest;
  const identity = identityOf(guest);
  const sqeBytes = engines.get(identity.device);
  if (identity.vendor !== hisiVendor || sqeBytes === undefined) {
    throw new FerryError("no-driver", `${name} is no HiSilicon accelerator's VF.`);
  }
  if (control.regions[qmBar]?.size !== qmBarBytes) {
    throw new FerryError("no-control", `${name}: the control plane is not the whole BAR${qmBar}.`);
  }
  const broker = brokerOf(name, given);
  const facts = askPf(broker);
  if (typeof facts === "number") {
    throw new FerryError("pf-busy", `${name}: its physical function does not answer now.`);
  }
  return {
    broker,
    facts,
    deviceId: identity.device,
    sqeShift: Math.log2(sqeBytes),
    compatibility: {
      ...identity,
      driver: "hisi-acc",
      version,
      oldestVersion,
      facts: {
        ...shapeOf(guest),
        queues: facts.queueCount,
        isolation: facts.isolation,
        capabilities: capabilitiesOf(control),
      },
    },
  };
}
