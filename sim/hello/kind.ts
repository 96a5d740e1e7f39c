import { HelloDevice } from "../../src/devices/hello/hello.ts";
import { NativeDriver } from "../../src/migration/drivers/native.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import { namesOf } from "../acts.ts";
import type { Kind, Model } from "../kind.ts";
import { acts } from "./acts.ts";
import { HelloGuest, scratchAt } from "./guest.ts";
import { ram } from "./ram.ts";

class HelloModel implements Model {
  readonly #device = new HelloDevice(false, true);
  readonly planes = {
    guest: this.#device,
    control: this.#device,
    memory: this.#device.memory,
  };

  newDriver(): NativeDriver {
    return new NativeDriver(this.planes);
  }

  holds(mark: number): boolean {
    const bytes = new Uint8Array(4);
    this.#device.read(PciRegion.bar0, scratchAt, bytes, 0, 4);
    return new DataView(bytes.buffer).getUint32(0, true) === mark;
  }

  /** It depends on nothing. */
  upset(): void {}

  calm(): void {}
}

/** A device that has VFIO's migration itself. */
export const hello: Kind = {
  name: "hello",
  ram,
  vectors: 2,
  acts: namesOf(acts),
  vetoless: () => true,
  newModel: () => new HelloModel(),
  newGuest: (world, host, mark) => new HelloGuest(world, host, mark),
};
