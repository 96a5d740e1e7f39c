import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostClock } from "../../src/host/host-clock.ts";
import * as s from "../../src/migration/hosts/shapes.ts";
import { eventCharsMax, QmpConnection } from "../../src/vm/qmp-connection.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { FakeMonitor, Refusal, silence } from "./fake-qemu.ts";

let folder: ReturnType<typeof temporaryFolder>;
let monitor: FakeMonitor;
let qmp: QmpConnection | null = null;

beforeEach(() => {
  folder = temporaryFolder();
  monitor = new FakeMonitor(join(folder.path, "qmp"));
});
afterEach(() => {
  qmp?.close();
  monitor.end();
  folder[Symbol.dispose]();
});

const open = async (): Promise<QmpConnection> => {
  qmp = await QmpConnection.open(monitor.path);
  return qmp;
};

describe("a monitor", () => {
  it("answers commands, and refuses them with a sentence", async () => {
    monitor.commands["query-status"] = () => ({ status: "running" });
    monitor.commands["stop"] = () => new Refusal("not now");
    const open_ = await open();
    expect(await open_.execute("query-status")).toEqual({ status: "running" });
    await expect(open_.execute("stop")).rejects.toThrow(`${monitor.path} refused stop: not now`);
  });

  it("that is busy obeys what overtakes the others, if it says that it can", async () => {
    const one = await open();
    monitor.isBusy = true;
    monitor.commands["yank"] = () => {
      monitor.isBusy = false;
      return {};
    };
    monitor.commands["query-status"] = () => ({ status: "running" });
    const waiting = one.execute("query-status");
    expect(await one.executeOutOfBand("yank", {})).toEqual({});
    expect(await waiting).toEqual({ status: "running" });
  });

  it("that takes one command after the other is not told to overtake", async () => {
    monitor.greeting = '{"QMP": {"version": {}, "capabilities": []}}';
    const one = await open();
    await expect(one.executeOutOfBand("yank", {})).rejects.toThrow("takes one command at a time");
  });

  it("that is not there is an operator's mistake", async () => {
    const path = join(folder.path, "nobody");
    await expect(QmpConnection.open(path)).rejects.toMatchObject({ code: "no-qmp" });
  });

  it.each([
    ["what is no JSON", "hello there"],
    ["another protocol", '{"jsonrpc": "2.0"}'],
    ["an answer that nobody asked for", '{"return": {}, "id": 7}'],
  ])("that greets with %s is left", async (_, greeting) => {
    monitor.greeting = greeting;
    await expect(QmpConnection.open(monitor.path)).rejects.toThrow("is it a QMP monitor?");
  });

  it("that says a line without end is left", async () => {
    const one = await open();
    monitor.commands["query-pci"] = () => {
      for (let n = 0; n < 9; n++) monitor.say("x".repeat(500_000));
      return silence;
    };
    await expect(one.execute("query-pci")).rejects.toThrow(/without end|nobody asked/);
  });

  it("that hangs up ends everything that waits", async () => {
    const one = await open();
    monitor.commands["quit"] = () => {
      monitor.hangUp();
      return silence;
    };
    const waiting = one.sees("a shutdown", 10_000, () => undefined);
    waiting.catch(() => {});
    await expect(one.execute("quit")).rejects.toThrow("has closed the connection");
    await expect(waiting).rejects.toThrow("has closed the connection");
    await expect(one.execute("quit")).rejects.toMatchObject({ code: "qmp-lost" });
  });

  it("may tell a thousand long events, of which the names are kept", async () => {
    const one = await open();
    monitor.event("LONG", { text: "x".repeat(eventCharsMax) });
    monitor.event("STOP", { reason: "asked" });
    const events = await one.sees("STOP", 1000, (all) => (all.length > 1 ? [...all] : undefined));
    expect(events.map(({ event, data }) => [event, data])).toEqual([
      ["LONG", null],
      ["STOP", { reason: "asked" }],
    ]);
  });

  it("tells events, which are found later too, with the time that it gives them", async () => {
    const one = await open();
    monitor.event("STOP");
    const atMs = await one.sees("STOP", 1000, ([first]) => first?.atMs);
    expect(Math.abs(atMs - hostClock.now())).toBeLessThan(60_000);
    one.forget();
    await expect(one.sees("the stop", 20, ([first]) => first)).rejects.toThrow(
      "the stop took longer than 20 ms.",
    );
  });

  it("is believed only what has the shape that was asked for", async () => {
    const one = await open();
    monitor.commands["query-status"] = () => ({ status: 5 });
    monitor.commands["human-monitor-command"] = () => ({});
    const shape = s.object({ status: s.text(10) });
    await expect(one.read(shape, "query-status")).rejects.toThrow("what makes no sense");
    await expect(one.human("info pci")).rejects.toThrow("what is no text");
  });
});
