/** What drives the two functions of the bulk device in tests: registers by their names. */
import { sizeOf } from "../../src/base/registers.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { Bulk, BulkControl, planes } from "../../src/devices/bulk/index.ts";
import { duplicate } from "../../src/sys/descriptors.ts";
import { Guest, Vmm } from "../device/vmm.ts";

export const mib = 1 << 20;
export const guestBase = 0x1_0000_0000;
export const hostBase = 0x10_0000;

type GuestRegister = keyof typeof Bulk.at;
type ControlRegister = keyof typeof BulkControl.at;

/** The guest's driver. */
export class BulkGuest {
  readonly vmm: Vmm;
  readonly ram = new Guest(guestBase, 4 * mib);

  constructor(device: VfioDevice) {
    this.vmm = new Vmm(device);
    this.vmm.map(this.ram);
  }

  get(register: GuestRegister): number {
    return this.vmm.read(0, Bulk.at[register], sizeOf(Bulk.registers[register]));
  }

  set(register: GuestRegister, value: number): void {
    this.vmm.write(0, Bulk.at[register], value, sizeOf(Bulk.registers[register]));
  }

  /** Starts a command. */
  start(command: number, offset: number, length: number, rest: { value?: number; at?: number }) {
    this.set("SEQUENCE", this.get("COMPLETED") + 1);
    this.set("BOARD_OFFSET", offset);
    this.set("LENGTH", length);
    this.set("VALUE", rest.value ?? 0);
    this.set("GUEST_ADDRESS", rest.at ?? guestBase);
    this.set("COMMAND", command);
  }

  /** Runs a command to its end and returns its status. */
  run(...command: Parameters<BulkGuest["start"]>): number {
    this.start(...command);
    this.vmm.run();
    return this.get("STATUS");
  }

  /** Bytes of the board, through the window. */
  peek(offset: number, count: number): Buffer {
    const parts: Buffer[] = [];
    for (let done = 0; done < count; ) {
      const at = (offset + done) % 65536;
      const piece = Math.min(65536 - at, count - done);
      this.set("WINDOW", Math.floor((offset + done) / 65536));
      parts.push(this.vmm.bytes(2, at, piece));
      done += piece;
    }
    return Buffer.concat(parts);
  }

  poke(offset: number, value: number): void {
    this.set("WINDOW", Math.floor(offset / 65536));
    this.vmm.write(2, offset % 65536, value);
  }
}

/** What migrates, with memory of its own. */
export class BulkHost {
  readonly vmm: Vmm;
  readonly memory = new Guest(hostBase, 2 * mib);

  constructor(control: VfioDevice) {
    this.vmm = new Vmm(control);
    const { iova, size, fd } = this.memory;
    const rights = { readable: true, writable: true, mayMap: true };
    control.mapDma({ iova, size, ...rights, fd: duplicate(fd), offset: 0 });
  }

  get(register: ControlRegister): number {
    return this.vmm.read(0, BulkControl.at[register], sizeOf(BulkControl.registers[register]));
  }

  set(register: ControlRegister, value: number): void {
    this.vmm.write(0, BulkControl.at[register], value, sizeOf(BulkControl.registers[register]));
  }

  /** Runs a command to its end and returns its result. */
  run(command: number, offset = 0, length = mib, host = hostBase): number {
    this.set("BOARD_OFFSET", offset);
    this.set("LENGTH", length);
    this.set("HOST_ADDRESS", host);
    this.set("COMMAND", command);
    this.vmm.run();
    return this.get("RESULT");
  }

  pause(level: number): void {
    this.set("PAUSE", level);
    this.vmm.run();
  }
}

export const make = (options: Record<string, string> = { memoryMiB: "4" }) => {
  const both = planes(options);
  return { ...both, driver: new BulkGuest(both.guest), host: new BulkHost(both.control) };
};
