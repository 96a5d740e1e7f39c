import { beforeEach, describe, expect, it } from "vitest";
import { MigrationDesk, type Reply } from "../../src/host/migration-desk.ts";
import { Touches } from "../../src/memory/transfer.ts";
import type { Arrived, Migratable } from "../../src/migration/migratable.ts";
import type { Session } from "../../src/server/session.ts";
import { MigState } from "../../src/spec/vfio.ts";

/** A device that moves until it is told where it arrives, and gives one byte. */
class SlowDevice {
  migrationState: MigState = MigState.running;
  moving = false;
  refusal = "";
  readonly planes = { memory: { touches: () => new Touches([0x1000], new Uint8Array(1)) } };
  #arrived: Arrived = () => {};

  move(_to: MigState, arrived: Arrived): void {
    this.moving = true;
    this.#arrived = arrived;
  }

  arrive(state: MigState, result: number): void {
    this.moving = false;
    this.migrationState = state;
    this.#arrived(result, { state, phases: [] });
  }

  readStream(): number {
    return this.migrationState === MigState.stopCopy ? 1 : -22;
  }
}

let device: SlowDevice;
let desk: MigrationDesk;
let said: string[];

/** Asks for something; what comes of it is kept in `said`. */
function ask(op: "move" | "showWrites" | "read", of: object | null): void {
  const reply: Reply = {
    answer: () => said.push(`${op} answered`),
    refuse: ({ message }) => said.push(`${op} refused: ${message}`),
  };
  desk.obey({ id: 0, op, ask: of } as never, reply);
}

beforeEach(() => {
  device = new SlowDevice();
  said = [];
  const touching = { begin: (_: Touches, ended: (result: number) => void) => ended(0) };
  const session = { connected: true, touching } as unknown as Session;
  desk = new MigrationDesk("hello", device as unknown as Migratable, session);
});

describe("what is asked while the device is on its way", () => {
  beforeEach(() => {
    ask("move", { to: MigState.stopCopy });
    ask("showWrites", null);
    ask("read", { room: new Uint8Array(1) });
    expect(said).toEqual([]);
  });

  it("is done when it is there, in turn", () => {
    device.arrive(MigState.stopCopy, 0);
    expect(said).toEqual(["move answered", "showWrites answered", "read answered"]);
  });

  it("shows a VMM nothing when the device goes on instead: its guest may write there", () => {
    device.arrive(MigState.running, -5);
    expect(said[0]).toMatch(/^move refused: hello did not get/);
    expect(said.slice(1)).toEqual([
      "showWrites refused: hello does not stand still.",
      "read refused: hello gives no data: EINVAL.",
    ]);
  });
});

it("what a running device has written is not shown", () => {
  ask("showWrites", null);
  expect(said).toEqual(["showWrites refused: hello does not stand still."]);
});
