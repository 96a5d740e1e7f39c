/** The process of a guest with a cipher accelerator, and the part of its VMM that moves memory. */
import { messageOf } from "../../../src/base/errors.ts";
import { Sec2Guest } from "../../support/moving-guest.ts";
import type { GuestCount, GuestOrder } from "./guest-orders.ts";

/** Between two looks of the vCPU: there are other processes to be run. */
const turnMs = 2;

class Guest {
  readonly #function: Sec2Guest;
  #running = true;
  #trouble = "";
  #waiting: { readonly until: () => boolean; readonly done: () => void } | null = null;

  constructor(socket: string) {
    this.#function = new Sec2Guest(socket);
    setInterval(() => this.#turn(), turnMs);
  }

  #turn(): void {
    try {
      if (this.#trouble === "") {
        if (this.#running) this.#function.turn();
        else if (this.#drains) this.#function.collect();
      }
    } catch (thrown) {
      this.#trouble = messageOf(thrown);
    }
    if (this.#trouble !== "" || this.#waiting?.until() === true) this.#waiting?.done();
  }

  #drains = false;

  async #wait(until: () => boolean): Promise<void> {
    await new Promise<void>((done) => {
      this.#waiting = { until, done };
    });
    this.#waiting = null;
  }

  async obey(order: GuestOrder): Promise<GuestCount> {
    try {
      await this.#obey(order);
    } catch (thrown) {
      this.#trouble ||= messageOf(thrown);
    }
    const { operations, wrong, pending, load } = this.#function;
    const { firstError } = load;
    return { operations, wrong, pending, firstError, trouble: this.#trouble };
  }

  async #obey(order: GuestOrder): Promise<void> {
    const guest = this.#function;
    switch (order.op) {
      case "boot":
        return;
      case "prepare":
        return guest.prepare(order.socket);
      case "copy":
        return guest.copyMemory();
      case "stand":
        this.#running = false;
        return guest.load.fill();
      case "arrive":
        guest.arrive();
        this.#running = true;
        return;
      case "stay":
        guest.stay();
        this.#running = true;
        return;
      case "work": {
        const wanted = guest.operations + order.operations;
        return await this.#wait(() => guest.operations >= wanted);
      }
      case "drain":
        [this.#running, this.#drains] = [false, true];
        await this.#wait(() => guest.pending === 0);
        this.#drains = false;
        return;
    }
  }
}

let guest: Guest | null = null;
process.on("message", (order: GuestOrder) => {
  if (order.op === "boot") guest = new Guest(order.socket);
  void guest?.obey(order).then((count) => process.send?.(count));
});
process.on("disconnect", () => process.exit());
