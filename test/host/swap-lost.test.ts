/** Either side of a swap dies, is silent or late: the VMM keeps its device, and nobody has two. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SwapLink } from "../../src/host/swap-link.ts";
import { Driver } from "../support/driver.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";
import { Load } from "../support/load.ts";
import {
  callTarget,
  dialSource,
  FakeTarget,
  forget,
  hearClient,
  hearState,
  nothingSaid,
  type Said,
  type SwapArrival,
  soon,
  swap,
} from "../support/swap-peers.ts";

const counter = 0x04;
const doorbell = 0x08;

let folder: ReturnType<typeof temporaryFolder>;
let server: Ferry;
let said: Said;
const path = (name: string): string => join(folder.path, name);
const device = (): string => path("device.sock");

beforeEach(async () => {
  folder = temporaryFolder();
  said = nothingSaid();
  server = await Ferry.start(["hello", "--socket-path", device()]);
});
afterEach(async () => {
  forget(said);
  expect(server.noise).toBe("");
  expect(await server.stop()).toBe(0);
  folder[Symbol.dispose]();
});

/** Asks for a swap to a target that does `play`, and then dies. */
async function swapTo(play: (arrival: SwapArrival) => Promise<unknown>): Promise<unknown> {
  using target = await FakeTarget.listen(path("fake.ctl"), play);
  return await swap(device(), { to: path("fake.sock"), control: target.path }).catch(
    (thrown: unknown) => thrown,
  );
}

/** How far a target gets before it dies. */
const targetSteps: ReadonlyArray<readonly [string, (link: SwapLink) => Promise<void>]> = [
  ["it has connected", async () => {}],
  ["it has heard a word", async (link) => void (await link.receive(["data"], soon()))],
  ["it has heard the state", (link) => hearState(link, said)],
  [
    "it has the client",
    async (link) => {
      await hearState(link, said);
      await hearClient(link, said);
    },
  ],
];

describe("the server that a device is to go to is lost", () => {
  it.each(targetSteps)("when %s: the guest goes on where it is", async (_, step) => {
    const load = await Load.start(device());
    const fds = server.openFds;
    const thrown = await swapTo(async (arrival) => {
      const link = dialSource(arrival);
      await step(link);
      link.close();
      forget(said);
      throw new Error("it dies");
    });
    expect(String(thrown)).toContain("hello stays with the server that has it");
    await load.progress(5);
    await until(() => server.openFds <= fds, "the server has closed what it opened");
    const { interrupts, doorbells, echoes, echoInterrupts } = await load.stop();
    expect([interrupts, echoInterrupts]).toEqual([doorbells, echoes]);
  });

  it("when it has refused: its sentence is told", async () => {
    const thrown = await swapTo(async () => {
      throw new Error("no room here");
    });
    expect(String(thrown)).toContain("no room here");
  });

  it("when it has said that it is the owner: its device is nobody else's", async () => {
    const driver = await Driver.connect(device());
    await driver.write(0, doorbell, 1);
    const report = await swapTo(async (arrival) => {
      const link = dialSource(arrival);
      await hearState(link, said);
      await hearClient(link, said);
      expect(link.sayNow("own")).toBe(true);
      link.close();
      return { trouble: "" };
    });
    expect(report).toMatchObject({ connected: true, trouble: "" });
    forget(said);
    await driver.close();
    const next = await Driver.connect(device());
    expect(await next.read(0, counter)).toBe(0);
    await next.close();
  });
});

describe("the server that a device is to go to is silent", () => {
  it("the guest is held for a bounded time, and its word comes too late", async () => {
    const load = await Load.start(device());
    let link: SwapLink | null = null;
    const thrown = await swapTo(async (arrival) => {
      link = dialSource(arrival);
      await hearState(link, said);
      await hearClient(link, said);
      await new Promise(() => {});
    });
    expect(String(thrown)).toContain("did not answer in time");
    expect((link as SwapLink | null)?.sayNow("own")).toBe(false);
    (link as SwapLink | null)?.close();
    forget(said);
    await load.progress(5);
    await load.stop();
  });
});

describe("the VMM, while its device is on its way", () => {
  it("disconnects: the device is free where it was", async () => {
    const driver = await Driver.connect(device());
    await swapTo(async (arrival) => {
      const link = dialSource(arrival);
      await hearState(link, said);
      await hearClient(link, said);
      await driver.close();
      link.close();
      forget(said);
      throw new Error("it dies");
    });
    await server.says("client gone");
    const next = await Driver.connect(device());
    expect(await next.read(0, counter)).toBe(0);
    await next.close();
  });

  it("resets it: the device stays", async () => {
    const driver = await Driver.connect(device());
    const thrown = await swapTo(async (arrival) => {
      expect(await driver.reset()).toBe(0);
      const link = dialSource(arrival);
      await hearState(link, said);
      await hearClient(link, said).finally(() => link.close());
    });
    expect(String(thrown)).toContain("the guest has reset hello");
    expect(await driver.read(0, counter)).toBe(0);
    await driver.write(0, doorbell, 1);
    expect(await driver.read(0, counter)).toBe(1);
    await driver.close();
  });
});

/** How far a source gets before it dies. */
const sourceSteps: ReadonlyArray<readonly [string, (link: SwapLink) => Promise<void>]> = [
  ["it is connected", async () => {}],
  ["it is connected, and silent", (link) => endOf(link)],
  ["it has said a part", (link) => link.send("data", said.data[0] as Uint8Array, soon())],
  ["it has said what makes no sense", (link) => link.send("data", new Uint8Array(4096), soon())],
  ["it has said the state", (link) => tellState(link)],
  [
    "it has sent its client, and waits no longer",
    async (link) => {
      await tellState(link);
      expect(link.concede()).toBe(false);
      await link.send("client", said.client, soon(), [...said.fds]);
    },
  ],
  [
    "it has sent a state that makes no sense, and its client",
    async (link) => {
      await link.send("data", new Uint8Array(4096), soon());
      await link.send("end", new Uint8Array(0), soon());
      await link.send("client", said.client, soon(), [...said.fds]).catch(() => {});
      await endOf(link);
    },
  ],
  [
    "it has sent a client that is none",
    async (link) => {
      await tellState(link);
      await link.send("client", new Uint8Array([0x7b]), soon(), [...said.fds]);
    },
  ],
];

/** Waits until the other side has given up. */
const endOf = (link: SwapLink): Promise<void> =>
  link.receive(["own"], soon()).then(
    () => Promise.reject(new Error("it was taken")),
    () => {},
  );

async function tellState(link: SwapLink): Promise<void> {
  for (const piece of said.data) await link.send("data", piece, soon());
  await link.send("end", new Uint8Array(0), soon());
}

describe("the server that has a device is lost", () => {
  it.each(sourceSteps)("when %s: the other one is clean and free", async (_, step) => {
    const driver = await Driver.connect(device());
    await driver.write(0, doorbell, 1);
    let arrival: SwapArrival | null = null;
    await swapTo(async (request) => {
      arrival = request;
      const link = dialSource(request);
      await hearState(link, said);
      await hearClient(link, said);
      link.close();
      throw new Error("it has heard enough");
    });
    const there = path("there.sock");
    await using target = await Ferry.start(["hello", "--socket-path", there]);
    const fds = target.openFds;
    const call = await callTarget(there, arrival as unknown as SwapArrival, path("meeting"));
    await step(call.link);
    call.link.close();
    await expect(call.answer).rejects.toThrow();
    await until(() => target.openFds <= fds, "the target has closed everything");
    const next = await Driver.connect(there);
    expect(await next.read(0, counter)).toBe(0);
    await next.close();
    expect(await driver.read(0, counter)).toBe(1);
    await driver.close();
    expect(target.noise).toBe("");
  });
});
