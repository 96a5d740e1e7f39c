import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { deviceReset, message, regionRead, regionWrite } from "../../src/client/raw-requests.ts";
import { Freeze } from "../../src/server/freeze.ts";
import { fenceRequestsMax } from "../../src/server/limits.ts";
import { End } from "../../src/server/session.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import { HeaderFlags } from "../../src/spec/vfio-user.ts";
import { signalEventfd } from "../../src/sys/descriptors.ts";
import { Served, SlowDevice } from "./slow-device.ts";

const counter = 0x04;
const ring = regionWrite(PciRegion.bar0, 0x08, new Uint8Array(4));
const { noReply } = HeaderFlags.mask;

let served: Served;
beforeEach(() => {
  served = new Served();
});
afterEach(() => served.end());

const rung = (): number => {
  const bytes = new Uint8Array(4);
  served.device.read(PciRegion.bar0, counter, bytes, 0, 4);
  return new DataView(bytes.buffer).getUint32(0, true);
};

describe("a fence", () => {
  it("serves all that has arrived before accesses are dropped", () => {
    served.sayOften(ring, 500, noReply);
    const last = served.say(ring);
    served.session.freeze(Freeze.drop);
    expect(rung()).toBe(501);
    expect(served.heard()).toEqual([[last, 0]]);
    served.say(ring);
    served.run(2);
    expect(rung()).toBe(501);
  });

  it("serves what was held first, then what came behind it", () => {
    const { session } = served;
    session.freeze(Freeze.hold);
    const held = [served.say(ring), served.say(ring)];
    served.run(3);
    expect([rung(), served.heard()]).toEqual([0, []]);
    const late = served.say(regionRead(PciRegion.bar0, counter, 4));
    session.freeze(Freeze.drop);
    expect(rung()).toBe(2);
    expect(served.heard()).toEqual([...held, late].map((id) => [id, 0]));
  });

  it("looks once at every doorbell", () => {
    signalEventfd(served.device.doorbell);
    served.session.freeze(Freeze.drop);
    expect(served.device.rung).toBe(1);
    signalEventfd(served.device.doorbell);
    served.session.freeze(Freeze.drop);
    expect(served.device.rung, "frozen already").toBe(1);
  });

  it("leaves the connection as it stood", () => {
    const { session } = served;
    for (const mode of [Freeze.none, Freeze.hold]) {
      session.freeze(mode);
      session.fence();
      expect(session.frozen).toBe(mode);
    }
    session.close();
    session.fence();
    session.freeze(Freeze.drop);
    expect(session.frozen).toBe(Freeze.drop);
  });

  it("serves no half of a message, which is finished later", () => {
    const bytes = message(ring, { flags: noReply });
    served.client.send(bytes.subarray(0, 20));
    served.session.fence();
    expect(rung()).toBe(0);
    served.client.send(bytes.subarray(20));
    served.session.fence();
    expect(rung()).toBe(1);
  });

  it("finds a client that has gone", () => {
    served.client.shutdown();
    served.session.freeze(Freeze.drop);
    served.chatter = null;
    expect(served.run(1)).toBe(End.closed);
  });

  it("does not wait for a client that takes no replies", () => {
    served.sayOften(regionRead(PciRegion.bar2, 0, 4096), 400);
    served.session.freeze(Freeze.drop);
    expect(served.session.frozen).toBe(Freeze.drop);
  });

  it(`ends after ${fenceRequestsMax} requests of a client that sends on and on`, () => {
    const more = message(deviceReset(), { flags: noReply });
    class Endless extends SlowDevice {
      override reset(): number {
        served.client.send(more);
        return 0;
      }
    }
    served.end();
    served = new Served(new Endless());
    for (let i = 0; i < 64; i++) served.client.send(more);
    const { session } = served;
    const before = session.served;
    session.fence();
    const count = session.served - before;
    expect(count).toBeLessThanOrEqual(fenceRequestsMax);
    expect(count).toBeGreaterThan(fenceRequestsMax / 2);
  });
});
