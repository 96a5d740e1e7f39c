/** A device and its VMM change from one server to another while the guest is at work. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Connection } from "../../src/client/connection.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import {
  DmaLoggingControl,
  DmaLoggingRange,
  Feature,
  FeatureFlags,
  FeatureMigState,
  IrqSetFlags,
  MigState,
  PciIrq,
  PciRegion,
} from "../../src/spec/vfio.ts";
import {
  closeFd,
  createEventfd,
  drainEventfd,
  duplicate,
  signalEventfd,
} from "../../src/sys/descriptors.ts";
import { ferry } from "../cli/run.ts";
import { Driver } from "../support/driver.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";
import { Load, type LoadCounts } from "../support/load.ts";
import { movingDevices } from "../support/moving-guest.ts";
import { swap, swapInTime } from "../support/swap-peers.ts";
import { Voyage } from "../support/voyage.ts";

/** How often under one load; a hundred is the promise, a few show it here. */
const swaps = Number(process.env["FERRY_SWAPS"] ?? 10);
const timeout = 30_000 + swaps * 2_000;

function nothingLost(counts: LoadCounts): void {
  expect(counts.interrupts).toBe(counts.doorbells);
  expect(counts.echoInterrupts).toBe(counts.echoes);
}

let folder: ReturnType<typeof temporaryFolder>;
let servers: Ferry[] = [];
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(async () => {
  for (const server of servers) {
    expect(server.noise).toBe("");
    expect(await server.stop()).toBe(0);
  }
  servers = [];
  folder[Symbol.dispose]();
});

/** Serves a device; its socket. */
async function serve(name: string, ...device: readonly string[]): Promise<string> {
  const socket = join(folder.path, `${name}.sock`);
  servers.push(await Ferry.start([...device, "--socket-path", socket]));
  return socket;
}

describe("a VMM that works without a pause", () => {
  /** There and back and there again; what the load has counted. */
  async function swapped(pair: readonly [string, string], control?: string): Promise<LoadCounts> {
    const load = await Load.start(pair[0], { twin: control === undefined });
    let longestMs = 0;
    for (let i = 0; i < swaps; i++) {
      const [from, to] = [pair[i % 2] as string, pair[(i + 1) % 2] as string];
      const report = await swapInTime(control ?? from, { device: from, to });
      expect(report).toMatchObject({ device: "hello", connected: true, trouble: "" });
      longestMs = Math.max(longestMs, report.heldMs);
      await load.progress(3);
    }
    process.stdout.write(`${swaps} swaps, the longest hold ${longestMs.toFixed(1)} ms\n`);
    return await load.stop();
  }

  it(
    `loses nothing in ${swaps} swaps between two processes`,
    async () => {
      const pair = [await serve("alice", "hello"), await serve("bob", "hello")] as const;
      nothingLost(await swapped(pair));
    },
    timeout,
  );

  it(
    `nor in ${swaps} between two devices of one process`,
    async () => {
      await serve("{n}", "hello", "--count", "2");
      const [first, second] = ["0", "1"].map((n) => join(folder.path, `${n}.sock`));
      const pair = [first as string, second as string] as const;
      nothingLost(await swapped(pair, first));
    },
    timeout,
  );
});

describe.each(movingDevices)("$device.0 under a guest that verifies every answer", (each) => {
  it("goes there and back", async () => {
    const pair = [await serve("alice", ...each.device), await serve("bob", ...each.device)];
    const voyage = new Voyage(each.boot(pair[0] as string));
    try {
      for (let i = 0; i < 4; i++) {
        await voyage.works();
        const [from, to] = [pair[i % 2] as string, pair[(i + 1) % 2] as string];
        expect(await swapInTime(from, { to })).toMatchObject({ connected: true, trouble: "" });
      }
      await voyage.works();
      expect(voyage.guest.wrong).toBe(0);
    } finally {
      voyage.end();
    }
  }, 60_000);
});

describe("a VMM that rings by eventfds", () => {
  it("is heard where its device is, also when it rang on the way", async () => {
    const unmapped = ["bench", "--set", "mmap=never"] as const;
    const [alice, bob] = [await serve("alice", ...unmapped), await serve("bob", ...unmapped)];
    const vmm = new RemoteDevice(Connection.connect(alice), "bench");
    const interrupts = [createEventfd(), createEventfd()];
    const request = { index: PciIrq.msix, start: 0, count: 2, bytes: new Uint8Array(0) };
    const { dataEventfd: data, actionTrigger: action } = IrqSetFlags.mask;
    vmm.setIrqs({ ...request, data, action, boolsAt: 0, fds: interrupts.map(duplicate) });
    const bell = vmm.ioEventfds(PciRegion.bar0)[1]?.fd as number;
    for (const [from, to] of [
      [alice, bob],
      [bob, alice],
    ] as const) {
      const swapping = swapInTime(from, { to });
      signalEventfd(bell);
      expect(await swapping).toMatchObject({ connected: true, trouble: "" });
      await until(() => drainEventfd(interrupts[1] as number) > 0, "what rang on the way is heard");
      signalEventfd(bell);
      await until(() => drainEventfd(interrupts[1] as number) > 0, "the bell is heard");
    }
    vmm.close();
    for (const fd of interrupts) closeFd(fd);
  });
});

const counter = 0x04;
const doorbell = 0x08;

describe("a device that has left", () => {
  it("is clean for the next VMM, and the other one is the VMM's alone", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const vmm = await Driver.connect(alice);
    await vmm.write(0, doorbell, 1);
    expect(await swapInTime(alice, { to: bob })).toMatchObject({ connected: true });
    const next = await Driver.connect(alice);
    expect(await next.read(0, counter)).toBe(0);
    await next.write(0, doorbell, 1);
    await next.write(0, doorbell, 1);
    expect(await vmm.read(0, counter)).toBe(1);
    await vmm.close();
    await servers[1]?.says("client gone");
    const last = await Driver.connect(bob);
    expect(await last.read(0, counter)).toBe(1);
    for (const each of [next, last]) await each.close();
  });

  it("does not need the server that it has left", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const load = await Load.start(alice);
    await swap(alice, { to: bob });
    const left = servers.shift() as Ferry;
    left.process.kill("SIGKILL");
    await left.exited;
    await load.progress(5);
    nothingLost(await load.stop());
  });

  it("leaves no descriptor behind", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const before = servers.map(({ openFds }) => openFds);
    const load = await Load.start(alice, { twin: true });
    for (const [from, to] of [
      [alice, bob],
      [bob, alice],
      [alice, bob],
    ] as const) {
      await swap(from, { to });
      await load.progress(3);
    }
    nothingLost(await load.stop());
    await servers[1]?.says("client gone", 2);
    expect(servers.map(({ openFds }) => openFds)).toEqual(before);
  });

  it("may have had no VMM", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    expect(await swapInTime(alice, { to: bob })).toMatchObject({ connected: false, trouble: "" });
  });
});

describe("what is refused before anything is held", () => {
  const refusals: ReadonlyArray<readonly [what: string, device: readonly string[], RegExp]> = [
    ["a device of another kind", ["bench"], /the PCI device id there is/],
    ["a device of another shape", ["hello", "--set", "msix=false"], /msix vectors is/],
    ["a device that may be mapped", ["hello", "--set", "mmap=trusted"], /mappable is false there/],
  ];
  it.each(refusals)("%s", async (_, device, sentence) => {
    const alice = await serve("alice", "hello");
    const other = await serve("bob", ...device);
    const load = await Load.start(alice);
    await expect(swap(alice, { to: other })).rejects.toThrow(sentence);
    await load.progress(3);
    nothingLost(await load.stop());
  });

  it("a device whose VMM may have mapped it", async () => {
    const mapped = ["hello", "--set", "mmap=trusted"] as const;
    const [alice, bob] = [await serve("alice", ...mapped), await serve("bob", ...mapped)];
    await expect(swap(alice, { to: bob })).rejects.toThrow(/may have mapped region 2/);
  });

  it("a device whose VMM logs what it writes, or migrates it", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const vmm = new RemoteDevice(Connection.connect(alice), "hello");
    const set = (feature: number, data: Uint8Array): number =>
      vmm.feature(FeatureFlags.mask.set | feature, data, 0, data.length, data.length);
    const range = new Uint8Array(DmaLoggingControl.size + DmaLoggingRange.size);
    const view = new DataView(range.buffer);
    DmaLoggingControl.set(view, 0, { pageSize: 4096, numRanges: 1, reserved: 0 });
    DmaLoggingRange.set(view, DmaLoggingControl.size, { iova: 0, length: 1 << 20 });
    expect(set(Feature.dmaLoggingStart, range)).toBeGreaterThanOrEqual(0);
    await expect(swap(alice, { to: bob })).rejects.toThrow("logs what it writes");
    expect(set(Feature.dmaLoggingStop, new Uint8Array(0))).toBeGreaterThanOrEqual(0);

    const state = new Uint8Array(FeatureMigState.size);
    const to = (deviceState: MigState): number => {
      FeatureMigState.set(new DataView(state.buffer), 0, { deviceState, dataFd: -1 });
      return set(Feature.migDeviceState, state);
    };
    expect(to(MigState.stop)).toBeGreaterThanOrEqual(0);
    await expect(swap(alice, { to: bob })).rejects.toThrow("its VMM migrates it");
    expect(to(MigState.running)).toBeGreaterThanOrEqual(0);
    expect(await swapInTime(alice, { to: bob })).toMatchObject({ connected: true, trouble: "" });
    vmm.close();
  });

  it("a place that a VMM has, one that is not there, and the device's own", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const vmm = await Driver.connect(bob);
    await expect(swap(alice, { to: bob })).rejects.toThrow("a VMM uses it");
    const nowhere = join(folder.path, "nowhere.sock");
    await expect(swap(alice, { to: nowhere })).rejects.toThrow("hello stays with the server");
    await expect(swap(alice, { device: alice, to: alice })).rejects.toThrow("the device itself");
    await vmm.close();
  });
});

describe("ferry swap", () => {
  it("says what came of it, for people and for scripts", async () => {
    const [alice, bob] = [await serve("alice", "hello"), await serve("bob", "hello")];
    const vmm = await Driver.connect(alice);
    const done = await ferry("swap", alice, "--to", bob);
    expect(done).toMatchObject({ code: 0, errors: "" });
    expect(done.output).toMatch(/^hello is served at .*bob\.sock now; its VMM was held for/);
    const back = await ferry("swap", bob, "--to", alice, "--json");
    expect(JSON.parse(back.output)).toMatchObject({ device: "hello", connected: true });
    const refused = await ferry("swap", alice, "--to", alice);
    expect(refused).toMatchObject({ code: 2 });
    await vmm.close();
  });
});
