// A die as a PCI device, and all that it takes. Serve it:
//
//   npx ferry serve examples/dice.mjs --socket-path /tmp/dice.sock
//
// and roll it with examples/roll.mjs, or from a virtual machine.
import { msix, PciModel, pciExpress, registers } from "vfio-ferry";

const Dice = registers("dice", 4096, {
  SIDES: { at: 0x00, access: "rw", reset: 6, doc: "how many sides the die has" },
  ROLL: { at: 0x04, access: "hook", doc: "any write rolls the die and raises vector 0" },
  VALUE: { at: 0x08, access: "ro", doc: "what came up, from 1" },
  LUCK: { at: 0x0c, access: "rw", reset: 1, doc: "what the next rolls come from" },
});

class Die extends PciModel {
  #registers = this.bank(0, Dice, { ROLL: () => this.#roll() });

  constructor() {
    super({
      name: "dice",
      version: 1,
      vendor: 0xfe22,
      device: 0x0010,
      revision: 1,
      classCode: 0xff0000,
      interruptPin: 1,
      capabilities: [
        pciExpress(),
        msix({ vectors: 1, table: { bar: 2, offset: 0 }, pending: { bar: 2, offset: 0x800 } }),
      ],
      bars: {
        0: { size: Dice.size, space: "memory32" },
        2: { size: 4096, space: "memory32" },
      },
    });
  }

  // All that the die remembers is in its registers, so it migrates with its luck.
  #roll() {
    const luck = (Math.imul(this.#registers.get("LUCK"), 1664525) + 1013904223) >>> 0;
    const sides = Math.max(1, this.#registers.get("SIDES"));
    this.#registers.set("LUCK", luck);
    this.#registers.set("VALUE", 1 + ((luck >>> 8) % sides));
    this.interrupts.raise(0);
  }
}

/** What `ferry serve` calls, once for every device. */
export const create = () => new Die();
