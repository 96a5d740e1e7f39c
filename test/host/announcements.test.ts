import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Announcements } from "../../src/host/announcements.ts";
import type { PhaseStep, TimedEvent } from "../../src/migration/hosts/events.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

let atMs = 0;
const phase = (name: string, step: PhaseStep): TimedEvent => ({
  ...{ kind: "phase", phase: name, step, atMs: atMs++ },
});
const pause: TimedEvent = { kind: "paused", before: "hand over", atMs };

function listen(to: "toListener" | "toLog" = "toListener") {
  const heard: TimedEvent[] = [];
  return { heard, announcements: Announcements[to]((event) => heard.push(event)) };
}

test("what nobody waits for is passed on a moment later, in order", () => {
  const { heard, announcements } = listen();
  const told = [phase("freeze", "begins"), phase("freeze", "ends"), phase("save", "begins")];
  for (const event of told) announcements.tell(event);
  expect(heard).toEqual([]);
  vi.runAllTimers();
  expect(heard).toEqual(told);
});

test.each([phase("save", "ends"), phase("thaw", "ends"), phase("transfer", "fails"), pause])(
  "what somebody waits for takes along what came before it: %o",
  (urgent) => {
    const { heard, announcements } = listen();
    const before = phase("freeze", "begins");
    announcements.tell(before);
    announcements.tell(urgent);
    expect(heard).toEqual([before, urgent]);
    vi.runAllTimers();
    expect(heard).toHaveLength(2);
  },
);

test("a log hears nothing for as long as a guest stands still, and the last word at once", () => {
  const { heard, announcements } = listen("toLog");
  announcements.tell(pause);
  vi.advanceTimersByTime(200);
  expect(heard).toEqual([]);
  vi.runAllTimers();
  expect(heard).toEqual([pause]);
  const ended = phase("thaw", "ends");
  const verdict: TimedEvent = {
    ...{ kind: "verdict", outcome: "moved", sentence: "", state: "RUNNING", theirs: [], atMs },
  };
  announcements.tell(ended);
  expect(heard).toEqual([pause]);
  announcements.tell(verdict);
  expect(heard).toEqual([pause, ended, verdict]);
});

test("a process that ends passes on what is kept", () => {
  const { heard, announcements } = listen("toLog");
  announcements.tell(pause);
  announcements.flush();
  expect(heard).toEqual([pause]);
});
