import { expect, it } from "vitest";
import { BulkCommand, planes } from "../../../src/devices/bulk/index.ts";
import { NativeDriver } from "../../../src/migration/drivers/native.ts";
import { Migratable } from "../../../src/migration/migratable.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { BulkGuest } from "../../devices/bulk-driver.ts";
import { load, move, save, TestClock } from "../operator.ts";

it("without a driver of its own the guest's function is moved, not the control function", () => {
  const make = () => {
    const both = planes({ memoryMiB: "1" });
    const device = new Migratable(both, new NativeDriver(both), new TestClock().now);
    return { device, guest: new BulkGuest(device) };
  };
  const source = make();
  source.guest.run(BulkCommand.fill, 100, 5, { value: 0x61 });
  const target = make();
  expect(load(target.device, save(source.device)).result).toBe(0);
  expect(move(target.device, MigState.running).result).toBe(0);
  expect(target.guest.peek(99, 7).toString("latin1")).toBe("\0aaaaa\0");
});
