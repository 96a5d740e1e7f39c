import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostClock } from "../../src/host/host-clock.ts";
import * as s from "../../src/migration/hosts/shapes.ts";
import { Qemu } from "../../src/vm/qemu.ts";
import {
  eventCharsMax,
  eventsMax,
  lineCharsMax,
  QmpConnection,
} from "../../src/vm/qmp-connection.ts";
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
    const sayLong = (chars: number) => () => {
      monitor.write("x".repeat(chars));
      return silence;
    };
    monitor.commands["query-pci"] = sayLong(lineCharsMax + 1);
    await expect(one.execute("query-pci")).rejects.toThrow("says a line without end");
  });

  it("may say a line of a large machine's length", async () => {
    const one = await open();
    const text = "x".repeat(lineCharsMax - 100);
    monitor.commands["query-pci"] = () => text;
    expect(await one.execute("query-pci")).toBe(text);
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

  it("may tell events without end, of which the last are kept", async () => {
    const one = await open();
    for (let i = 0; i <= eventsMax; i++) monitor.event(`E${i}`);
    const last = `E${eventsMax}`;
    const kept = await one.sees(last, 5000, (all) =>
      all.at(-1)?.event === last ? [...all] : undefined,
    );
    expect([kept.length, kept[0]?.event]).toEqual([1000, "E1"]);
  });

  it("tells of a long event its name", async () => {
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

  it("is asked for a table of MSI-X in pieces, each of which it shows whole", async () => {
    monitor.commands["human-monitor-command"] = (args) => {
      asked.push(String(args["command-line"]));
      const [, count = "0"] = /xp \/(\d+)wx/.exec(asked.at(-1) ?? "") ?? [];
      return `0000: ${"0x00000007 ".repeat(Number(count))}`;
    };
    const asked: string[] = [];
    const qemu = await Qemu.connect(monitor.path);
    expect(await qemu.readWords(0x1000, 1500)).toEqual(Array(1500).fill(7));
    expect(asked).toEqual(["xp /1024wx 0x1000", "xp /476wx 0x2000"]);
    qemu.close();
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
