/** Devices that have come to a host and stand there until it is known what becomes of them. */
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { MigState } from "../../src/spec/vfio.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { MigratingHost } from "../support/migrating-host.ts";
import { type MovingGuest, movingDevices } from "../support/moving-guest.ts";
import { Voyage } from "../support/voyage.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());
let files = 0;

describe.each(movingDevices)("$device.0 that has gone with the vCPUs standing still", (row) => {
  let alice: MigratingHost;
  let bob: MigratingHost;
  let voyage: Voyage<MovingGuest>;
  const place = async (host: MigratingHost, thaw: string) => {
    const listen = `unix:${join(folder.path, `${files++}.mig`)}`;
    const { address: to, token } = await host.offer({ from: "local", listen, thaw });
    return { to, token };
  };
  const pauseBefore = ["hand over"];
  const expectStanding = async (): Promise<void> => {
    const { port, migration } = await bob.status();
    expect(port).toMatchObject({ state: MigState.stop, master: "operator", frozen: "drop" });
    expect(migration?.report.outcome?.outcome).toBe("kept");
  };

  beforeEach(async () => {
    const start = (name: string) =>
      MigratingHost.start(`${files++}-${name}`, folder.path, row.device);
    [alice, bob] = await Promise.all([start("alice"), start("bob")]);
    voyage = new Voyage(row.boot(alice.socket));
    await voyage.works();
    voyage.stand();
    voyage.guest.prepare(bob.socket);
    const there = { ...(await place(bob, "when told")), vcpusStopped: true };
    expect(await alice.migrate(there)).toMatchObject({ outcome: "moved" });
    voyage.guest.copyMemory();
    await bob.becomes(({ migration }) => migration?.waitsForThaw === true, "waiting");
    expect((await bob.status()).port).toMatchObject({ state: MigState.stop, connected: true });
  }, 60_000);
  afterEach(async () => {
    voyage.end();
    for (const { ferry } of [alice, bob]) {
      expect(await ferry.stop()).toBe(0);
      expect(ferry.noise).toBe("");
    }
  }, 60_000);

  it("goes on there when it is told to", async () => {
    await bob.ask("migrate-thaw");
    voyage.guest.arrive();
    voyage.goOn();
    await voyage.works();
    await expect(bob.ask("migrate-thaw")).rejects.toThrow("no device waits here");
  });

  it("comes back as it was, to a guest that was connected all the time", async () => {
    expect(await bob.migrate(await place(alice, "at once"))).toMatchObject({ outcome: "moved" });
    voyage.guest.stay();
    voyage.goOn();
    await voyage.works();
    expect(await bob.idle()).toMatchObject({ port: { state: MigState.running, master: "none" } });
    await expect(bob.ask("migrate-thaw")).rejects.toThrow("no device waits here");
  });

  it("stands there as before when it is not let in, or called back", async () => {
    const { to } = await place(alice, "at once");
    const refused = await bob.migrate({ to, token: "0".repeat(32) });
    expect(refused).toMatchObject({ outcome: "kept" });
    await expectStanding();
    const moving = bob.migrate({ ...(await place(alice, "at once")), pauseBefore });
    await bob.pauses("hand over");
    await bob.ask("migrate-abort");
    expect(await moving).toMatchObject({ outcome: "kept" });
    await expectStanding();
    await alice.idle();
    expect(await bob.migrate(await place(alice, "at once"))).toMatchObject({ outcome: "moved" });
    voyage.guest.stay();
    voyage.goOn();
    await voyage.works();
  });
});
