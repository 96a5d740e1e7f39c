/** The stream between a device and a link: in order, and in memory that is bounded. */
import { describe, expect, it } from "vitest";
import { Intake, Pump, piecesAhead } from "../../../src/migration/hosts/pump.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const pieceBytes = 8;
const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A device with so many pieces, and what was asked of it. */
class Well {
  readonly rooms = new Set<ArrayBuffer>();
  reads = 0;
  readonly #pieces: number;

  constructor(pieces: number) {
    this.#pieces = pieces;
  }

  readonly read = async (room: Bytes): Promise<Bytes> => {
    const number = this.reads++;
    this.rooms.add(room.buffer);
    await later();
    if (number >= this.#pieces) return room.subarray(0, 0);
    room.fill(number);
    return room.subarray(0, pieceBytes);
  };
}

describe("a pump", () => {
  it("passes on everything in order, in as many arrays as it says", async () => {
    const [pump, well] = [new Pump(pieceBytes), new Well(50)];
    const passed: number[] = [];
    const pass = async (bytes: Bytes): Promise<void> => {
      passed.push(bytes[0] as number);
      const before = bytes.slice();
      for (let i = 0; i < 3; i++) await later();
      expect(bytes).toEqual(before);
    };
    await pump.drain({ read: well.read, pass });
    expect(passed).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(well.rooms.size).toBe(piecesAhead);
    await pump.drain({ read: well.read, pass });
    expect(well.rooms.size).toBe(piecesAhead);
  });

  it("reads no further than its arrays go while nothing is passed on", async () => {
    const [pump, well] = [new Pump(pieceBytes), new Well(50)];
    let letGo = (): void => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const draining = pump.drain({ read: well.read, pass: () => held });
    for (let i = 0; i < 20; i++) await later();
    expect(well.reads).toBeLessThanOrEqual(piecesAhead);
    letGo();
    await draining;
  });

  it("asks twice of a device that has little", async () => {
    const [pump, well] = [new Pump(2 * pieceBytes), new Well(1)];
    await pump.drain({ read: well.read, pass: later });
    expect(well.reads).toBeLessThanOrEqual(3);
    expect(well.rooms.size).toBe(2);
  });

  it.each(["read", "pass", "admit"] as const)("ends when it cannot %s", async (what) => {
    const [pump, well] = [new Pump(pieceBytes), new Well(50)];
    let passed = 0;
    const broken = async (): Promise<never> => {
      throw new Error("broken");
    };
    const pass = async (): Promise<void> => void passed++;
    const flow = { read: well.read, pass, [what]: broken };
    await expect(pump.drain(flow)).rejects.toThrow("broken");
    const before = passed;
    for (let i = 0; i < 10; i++) await later();
    expect(passed).toBe(before);
    expect(well.reads).toBeLessThanOrEqual(2 * piecesAhead);
  });
});

describe("an intake", () => {
  it("has no more pieces under way than it says", async () => {
    let [under, most] = [0, 0];
    const intake = new Intake(async () => {
      under += 1;
      most = Math.max(most, under);
      await later();
      under -= 1;
    });
    for (let i = 0; i < 50; i++) await intake.put(new Uint8Array(pieceBytes));
    await intake.finish();
    expect([under, most]).toEqual([0, piecesAhead]);
  });
});
