import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { readU53 } from "../../src/base/struct.ts";
import { message } from "../../src/client/raw-requests.ts";
import { Touches } from "../../src/memory/transfer.ts";
import { Freeze } from "../../src/server/freeze.ts";
import { Command, DmaAccess, HeaderFlags, MessageType } from "../../src/spec/vfio-user.ts";
import { Served } from "./slow-device.ts";

const { noReply } = HeaderFlags.mask;
const headBytes = DmaAccess.size;

let served: Served;
let results: number[];

beforeEach(() => {
  served = new Served();
  results = [];
  served.session.freeze(Freeze.drop);
});
afterEach(() => served.end());

const touch = (count: number): void => {
  const places = Array.from({ length: count }, (_, at) => 4096 * at);
  const bytes = Uint8Array.from(places.keys());
  served.session.touching.begin(new Touches(places, bytes), (result) => results.push(result));
};

/** The writes that have come: where, what, and whether an answer is wanted. */
function writes(): Array<{ place: number; value: number; answered: boolean; id: number }> {
  const heard = [];
  for (;;) {
    const received = served.client.receive(0);
    if (typeof received === "string") return heard;
    const { command, flags, payload, messageId: id } = received;
    if ((flags & HeaderFlags.mask.type) !== MessageType.command) continue;
    expect(command).toBe(Command.dmaWrite);
    expect(payload).toHaveLength(headBytes + 1);
    const place = readU53(new DataView(payload.buffer, payload.byteOffset), 0);
    heard.push({
      ...{ place, value: payload[headBytes] as number, id },
      answered: (flags & noReply) === 0,
    });
  }
}

function answer(id: number, error = 0): void {
  const flags = MessageType.reply | (error === 0 ? 0 : HeaderFlags.mask.error);
  const payload = new Uint8Array(headBytes);
  new DataView(payload.buffer).setUint32(8, 1, true);
  served.client.send(
    message({ command: Command.dmaWrite, payload }, { messageId: id, flags, error }),
  );
  served.run(2);
}

describe("touching a client's memory", () => {
  it("writes a byte to each place, and wants one answer for all", () => {
    touch(200);
    served.run(3);
    const heard = writes();
    expect(heard.map(({ place }) => place)).toEqual(
      Array.from({ length: 200 }, (_, n) => 4096 * n),
    );
    expect(heard.map(({ value }) => value)).toEqual(Array.from({ length: 200 }, (_, n) => n));
    expect(heard.filter(({ answered }) => answered)).toEqual([heard.at(-1)]);
    expect(results).toEqual([]);
    answer(heard.at(-1)?.id ?? -1);
    expect(results).toEqual([0]);
    expect(served.session.touching.active).toBe(false);
  });

  it("has sent them before the thread's next turn", () => {
    touch(2);
    expect(writes()).toHaveLength(2);
  });

  it("goes on when the client takes more of what does not fit at once", () => {
    const count = 30_000;
    touch(count);
    const heard = [];
    for (let turns = 0; turns < 1000 && heard.length < count; turns++) {
      served.run(3);
      heard.push(...writes());
    }
    expect(heard).toHaveLength(count);
    answer(heard.at(-1)?.id ?? -1);
    expect(results).toEqual([0]);
  });

  it("ends with what the client answers", () => {
    touch(2);
    served.run(3);
    answer(writes().at(-1)?.id ?? -1, errno.ENODEV);
    expect(results).toEqual([-errno.ENODEV]);
  });

  it("of no place is done at once", () => {
    touch(0);
    expect(results).toEqual([0]);
  });

  it("ends with its client", () => {
    touch(2);
    served.run(3);
    served.session.close();
    expect(results).toEqual([-errno.ECANCELED]);
  });
});
