/** A small model with a bit of everything, for tests of what all models share. */
import { errno } from "../../src/base/errno.ts";
import { registers } from "../../src/base/registers.ts";
import { msi, msix, pciExpress, powerManagement } from "../../src/device/capabilities.ts";
import { PciModel } from "../../src/device/pci-model.ts";

export const Registers = registers("test", 64, {
  VALUE: { at: 0x00, access: "rw", reset: 7, doc: "kept" },
  RAISE: { at: 0x04, access: "hook", doc: "raises a vector" },
  LINE: { at: 0x08, access: "hook", doc: "asserts the line" },
  WORK: { at: 0x0c, access: "rw", doc: "slices still to do" },
});

/** `VALUE` of a state that this model refuses. */
export const badValue = 0xbad;
export const romBytes = Uint8Array.from({ length: 3000 }, (_, i) => i);

export class TestModel extends PciModel {
  readonly registers = this.bank(0, Registers, {
    RAISE: (vector) => this.interrupts.raise(vector),
    LINE: (level) => this.interrupts.setLine(level !== 0),
  });
  aborts = 0;
  resets = 0;
  slices = 0;

  constructor(version = 1, device = 0x7e57) {
    super({
      name: "test",
      version,
      vendor: 0xfe22,
      device,
      revision: 0,
      classCode: 0xff0000,
      interruptPin: 1,
      capabilities: [
        powerManagement(),
        pciExpress(),
        msi({ vectors: 8 }),
        msix({ vectors: 70, table: { bar: 2, offset: 0 }, pending: { bar: 2, offset: 0x800 } }),
      ],
      bars: {
        0: { size: 1 << 21, space: "memory64", prefetchable: true },
        2: { size: 4096, space: "memory32" },
        3: { size: 65536, space: "memory32", mapped: [{ offset: 4096, size: 8192 }] },
        4: { size: 8192, space: "memory32", mapped: true },
        5: { size: 256, space: "io" },
      },
      rom: romBytes,
      sections: { own: 100 },
    });
  }

  get own(): Uint8Array {
    return this.section("own");
  }

  protected override get hasWork(): boolean {
    return this.registers.get("WORK") > 0;
  }

  protected override slice(): void {
    this.slices += 1;
    this.registers.set("WORK", this.registers.get("WORK") - 1);
  }

  protected override onAbort(): void {
    this.aborts += 1;
  }

  protected override onReset(): void {
    this.resets += 1;
    this.own.fill(0);
  }

  protected override onRestored(): number {
    return this.registers.get("VALUE") === badValue ? -errno.EINVAL : 0;
  }
}
