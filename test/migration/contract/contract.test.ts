import { describe, expect, it, test } from "vitest";
import { BulkCommand, planes } from "../../../src/devices/bulk/index.ts";
import {
  ContractBreach,
  type ContractSubject,
  driverContract,
} from "../../../src/migration/contract/index.ts";
import { closeFd } from "../../../src/sys/descriptors.ts";
import { BulkGuest, guestBase, mib } from "../../devices/bulk-driver.ts";
import { kind } from "../bulk/pair.ts";
import { broken } from "./broken.ts";
import { TinyDriver, tinySubject } from "./tiny.ts";

const { fill, toGuest } = BulkCommand;

/** A bulk device, whose guest leaves a command half done. */
function bulkSubject(options: Record<string, string>): ContractSubject & { guest: BulkGuest } {
  const both = planes(options);
  const guest = new BulkGuest(both.guest);
  const facts = () => {
    const missing = guest.get("SEQUENCE") - guest.get("COMPLETED");
    return [guest.get("VALUE"), guest.get("STATUS"), missing].join();
  };
  const demand = (is: string, wanted: string): void => {
    if (is !== wanted) throw new Error(`it has ${is}, not ${wanted}`);
  };
  return {
    kind,
    planes: both,
    guest,
    exercise() {
      guest.run(fill, mib - 5, 10, { value: 0x5a });
      guest.ram.write(guestBase, Buffer.alloc(2 * mib));
      guest.start(toGuest, 0, 2 * mib, { value: 0x77 });
      both.guest.work();
    },
    verify() {
      guest.vmm.run();
      demand(facts(), "119,0,0");
      const moved = guest.ram.read(guestBase + mib - 6, 12).toString("hex");
      demand(moved, `00${"5a".repeat(10)}00`);
    },
    clean() {
      guest.vmm.run();
      demand(facts(), "0,0,0");
      guest.run(toGuest, 0, 2 * mib, {});
      const board = guest.ram.read(guestBase, 2 * mib);
      if (!board.equals(Buffer.alloc(2 * mib))) throw new Error("the board is not empty");
    },
    adopt(source) {
      const { ram } = (source as unknown as { guest: BulkGuest }).guest;
      guest.ram.write(guestBase, ram.read(guestBase, ram.size));
    },
    close: () => closeFd(guest.ram.fd),
  };
}

describe("the contract holds for a tiny driver:", () => {
  for (const { name, run } of driverContract(() => tinySubject(TinyDriver))) test(name, run);
});

describe.each(["never", "trusted"])(
  "the contract holds for the bulk device's, mmap=%s:",
  (mmap) => {
    const options = { turnsMax: 200, spoiltMax: 8 };
    const cases = driverContract(() => bulkSubject({ memoryMiB: "2", mmap }), options);
    for (const { name, run } of cases) test(name, run);
  },
);

describe("the contract is broken by", () => {
  it.each(broken)("%o, which is found by: %s", (Driver, name) => {
    const all = driverContract(() => tinySubject(Driver));
    const found = all.filter(({ run }) => {
      try {
        run();
        return false;
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(ContractBreach);
        return true;
      }
    });
    expect(found.map((each) => each.name)).toContain(name);
  });
});

it("the cases have names of their own", () => {
  const names = driverContract(() => tinySubject(TinyDriver)).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
