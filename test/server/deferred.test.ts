import { afterEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { RawClient } from "../../src/client/raw-client.ts";
import {
  deviceReset,
  regionRead,
  regionWrite,
  setMigState,
} from "../../src/client/raw-requests.ts";
import { deferred } from "../../src/device/vfio-device.ts";
import { Wrapper } from "../../src/device/wrapper.ts";
import { Freeze } from "../../src/server/freeze.ts";
import { Session } from "../../src/server/session.ts";
import { MigState, PciRegion } from "../../src/spec/vfio.ts";
import { Command, HeaderFlags, MessageType } from "../../src/spec/vfio-user.ts";
import { signalEventfd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { Served, SlowDevice } from "./slow-device.ts";

const { noReply } = HeaderFlags.mask;
const stop = setMigState(MigState.stop);
const readConfig = regionRead(PciRegion.config, 0, 4);
const scratch = 0x2c;

let served: Served;
const start = (): Served => {
  served = new Served();
  return served;
};
afterEach(() => served.end());

describe("an answer that the device defers", () => {
  it("comes when the device has it, everything else before", () => {
    const { device } = start();
    const set = served.say(stop);
    const access = served.say(regionRead(PciRegion.bar0, scratch, 4));
    served.run(3);
    expect(served.heard()).toEqual([[access, 0]]);
    const turns = device.turns;
    const reset = served.say(deviceReset());
    served.run(5);
    expect(served.heard()).toEqual([[reset, 0]]);
    expect(device.turns).toBe(turns + 5);
    device.result = 0;
    served.run(1);
    expect(served.heard()).toEqual([[set, 0]]);
    served.run(3);
    expect(served.heard()).toEqual([]);
  });

  it("is the request again, as the answer to every set is", () => {
    start();
    const messageId = served.say(stop);
    served.run(2);
    served.say(readConfig, noReply);
    served.device.result = 8;
    served.run(2);
    const reply = served.client.receive(0);
    if (typeof reply === "string") throw new Error(reply);
    expect(reply).toMatchObject({ messageId, command: Command.deviceFeature, error: 0 });
    expect(reply.flags).toBe(MessageType.reply);
    expect(Buffer.from(reply.payload)).toEqual(Buffer.from(stop.payload));
  });

  it("is a header alone when the device fails", () => {
    start();
    const messageId = served.say(stop);
    served.run(2);
    served.device.result = -errno.EIO;
    served.run(1);
    const reply = served.client.receive(0);
    if (typeof reply === "string") throw new Error(reply);
    expect(reply).toMatchObject({ messageId, error: errno.EIO, messageSize: 16 });
    expect(reply.flags).toBe(MessageType.reply | HeaderFlags.mask.error);
  });

  it("is one at a time: the device refuses a second one, which is answered at once", () => {
    start();
    const first = served.say(stop);
    const second = served.say(setMigState(MigState.running));
    served.run(3);
    expect(served.heard()).toEqual([[second, errno.EBUSY]]);
    served.device.result = 0;
    served.run(1);
    expect(served.heard()).toEqual([[first, 0]]);
    const third = served.say(stop);
    served.run(2);
    served.device.result = 0;
    served.run(1);
    expect(served.heard()).toEqual([[third, 0]]);
  });

  it("is taken and not sent for a client that wants none", () => {
    start();
    served.say(stop, noReply);
    served.run(3);
    served.device.result = -errno.EIO;
    served.run(2);
    expect(served.heard()).toEqual([]);
    const next = served.say(stop);
    served.run(2);
    served.device.result = 0;
    served.run(1);
    expect(served.heard()).toEqual([[next, 0]]);
  });

  it.each([Freeze.hold, Freeze.drop])("comes while the connection stands still (%i)", (mode) => {
    const { device, session } = start();
    const set = served.say(stop);
    served.run(2);
    session.freeze(mode);
    const turns = device.turns;
    signalEventfd(device.doorbell);
    served.run(3);
    expect([device.turns - turns, device.rung]).toEqual([3, 1]);
    device.result = 0;
    served.run(1);
    expect(served.heard()).toEqual([[set, 0]]);
  });

  it("waits for a client that does not read its replies, and is not lost", () => {
    const { device } = start();
    const set = served.say(stop);
    served.run(2);
    served.sayOften(regionRead(PciRegion.bar2, 0, 4096), 400);
    served.run(8);
    device.result = 0;
    served.run(4);
    const ids: number[] = [];
    for (let i = 0; i < 50; i++) {
      ids.push(...served.heard().map(([id]) => id));
      served.run(1);
    }
    expect(ids).toContain(set);
    expect(ids).toHaveLength(401);
  });

  it("is forgotten with its client", () => {
    const { session, device } = start();
    served.say(stop);
    served.run(2);
    session.close();
    const [ours, theirs] = socketPair();
    served.client.close();
    served.client = new RawClient(theirs);
    session.open(ours);
    device.result = 0;
    served.say({ command: Command.version, payload: Uint8Array.of(0, 0, 1, 0) });
    served.run(3);
    expect(served.heard()).toHaveLength(1);
    expect(device.result, "nobody has asked").toBe(0);
  });

  it("goes along to a successor, if the device has come to rest with it", () => {
    const { session, device } = start();
    const set = served.say(stop);
    served.run(2);
    device.result = 0;
    const successor = new Session(
      device,
      () => true,
      () => 0,
    );
    successor.takeUp(session.export());
    successor.fence();
    expect(served.heard()).toEqual([[set, 0]]);
    successor.close();
  });

  it("keeps a connection here: a device at rest owes nothing", () => {
    const { session } = start();
    served.say(stop);
    served.run(2);
    expect(() => session.export()).toThrow("owes an answer");
  });

  it("is none of a feature's that is read", () => {
    class Confused extends SlowDevice {
      override feature(): number {
        return deferred;
      }
    }
    served = new Served(new Confused());
    served.say({
      ...stop,
      payload: Uint8Array.of(16, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    });
    expect(() => served.run(2)).toThrow("defers a feature that is read");
  });
});

describe("a device that moves", () => {
  it.each([Freeze.hold, Freeze.drop])("has its turns on a frozen connection (%i)", (mode) => {
    const { device, session } = start();
    session.freeze(mode);
    device.turns = 0;
    signalEventfd(device.doorbell);
    served.run(3);
    expect([device.turns, device.rung]).toEqual([0, 0]);
    device.moves = true;
    served.run(3);
    expect([device.turns, device.rung]).toEqual([3, 1]);
    device.moves = false;
    served.run(3);
    expect(device.turns).toBe(3);
  });

  it("has its turns while its client reads no replies", () => {
    const { device } = start();
    served.sayOften(regionRead(PciRegion.bar2, 0, 4096), 400);
    served.run(8);
    device.turns = 0;
    served.run(3);
    expect(device.turns).toBe(0);
    device.moves = true;
    served.run(3);
    expect(device.turns).toBe(3);
  });

  it("is asked for by a wrapper, and so is a result", () => {
    start();
    const { inner } = served.device;
    expect([inner.moving ?? false, inner.settle]).toEqual([false, undefined]);
    served.device.moves = true;
    served.device.result = -errno.EIO;
    const outer = new Wrapper(served.device);
    expect([outer.moving, outer.settle()]).toEqual([true, -errno.EIO]);
  });

  it("drops what comes meanwhile in drop mode", () => {
    const { session, device } = start();
    device.moves = true;
    session.freeze(Freeze.drop);
    served.say(regionWrite(PciRegion.bar0, scratch, Uint8Array.of(1, 2, 3, 4)));
    served.run(3);
    const bytes = new Uint8Array(4);
    device.read(PciRegion.bar0, scratch, bytes, 0, 4);
    expect([...bytes]).toEqual([0, 0, 0, 0]);
  });
});
