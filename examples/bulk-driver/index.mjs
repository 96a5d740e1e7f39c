// The migration driver of the bulk device, as a package of its own:
//   ferry serve bulk --driver ./examples/bulk-driver/index.mjs
import { FerryError } from "vfio-ferry";
import { BulkControl } from "vfio-ferry/devices/bulk";
import { Control } from "./control.mjs";
import { BulkDriver } from "./driver.mjs";

/** @type {import("vfio-ferry").DriverKind} */
export const kind = {
  name: "bulk",
  ids: [[0xfe22, 0x0003]],
  create(planes) {
    const control = new Control(planes.control);
    if (control.get("MAGIC") !== BulkControl.registers.MAGIC.reset) {
      throw new FerryError(
        "no-control-plane",
        `${planes.guest.name} needs its control function, and ${planes.control.name} is none.`,
      );
    }
    return new BulkDriver(planes.guest, control);
  },
};
