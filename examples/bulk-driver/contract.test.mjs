// Proves the driver, as any vendor would prove theirs:  node --test examples/bulk-driver
import { test } from "node:test";
import { GuestRam } from "vfio-ferry";
import { Bulk, BulkCommand, planes } from "vfio-ferry/devices/bulk";
import { driverContract } from "vfio-ferry/driver-contract";
import { kind } from "./index.mjs";

const { fill, toGuest } = BulkCommand;
const mib = 1 << 20;
const ramBytes = 2 * mib;
const ramAddress = 0x1_0000_0000;
const turnsMax = 1000;

/** The guest's driver, as far as the contract needs one. */
class Guest {
  #device;
  #bytes = new Uint8Array(8);
  #view = new DataView(this.#bytes.buffer);

  constructor(device) {
    this.#device = device;
  }

  get(name) {
    this.#device.read(0, Bulk.at[name], this.#bytes, 0, 4);
    return this.#view.getUint32(0, true);
  }

  set(name, value) {
    const { size = 4 } = Bulk.registers[name];
    this.#view.setBigUint64(0, BigInt(value), true);
    this.#device.write(0, Bulk.at[name], this.#bytes, 0, size);
  }

  start(command, offset, length, value) {
    this.set("BOARD_OFFSET", offset);
    this.set("LENGTH", length);
    this.set("VALUE", value);
    this.set("GUEST_ADDRESS", ramAddress);
    this.set("COMMAND", command);
  }

  finish() {
    for (let turn = 0; this.#device.busy && turn < turnsMax; turn++) this.#device.work();
    return this.get("STATUS");
  }
}

/** A fresh device, and a guest that leaves a command half done. */
function make() {
  const both = planes({ memoryMiB: "2" });
  const guest = new Guest(both.guest);
  const ram = new GuestRam(ramBytes);
  ram.map(both.guest, ramAddress);
  const demand = (is, wanted) => {
    if (is !== wanted) throw new Error(`it has ${is}, not ${wanted}`);
  };
  return {
    kind,
    planes: both,
    ram,
    exercise() {
      guest.start(fill, mib - 5, 10, 0x5a);
      guest.finish();
      ram.bytes.fill(0);
      guest.start(toGuest, 0, 2 * mib, 0x77);
      both.guest.work();
    },
    verify() {
      demand(guest.finish(), 0);
      const moved = Buffer.from(ram.bytes.subarray(mib - 6, mib + 6)).toString("hex");
      demand(`${guest.get("VALUE")} ${moved}`, `119 00${"5a".repeat(10)}00`);
    },
    clean() {
      demand(guest.get("VALUE"), 0);
      guest.start(toGuest, 0, 2 * mib, 0);
      demand(guest.finish(), 0);
      demand(
        ram.bytes.findIndex((byte) => byte !== 0),
        -1,
      );
    },
    adopt(source) {
      ram.bytes.set(source.ram.bytes);
    },
    close() {
      ram.close();
    },
  };
}

for (const { name, run } of driverContract(make, { turnsMax: 200, spoiltMax: 4 })) test(name, run);
