import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Announcements, isLast } from "../../src/host/announcements.ts";
import type { PhaseStep, TimedEvent } from "../../src/migration/hosts/events.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

let atMs = 0;
const phase = (name: string, step: PhaseStep): TimedEvent => ({
  ...{ kind: "phase", phase: name, step, atMs: atMs++ },
});
const pause: TimedEvent = { kind: "paused", before: "hand over", atMs };

function listen(urgent?: (event: TimedEvent) => boolean) {
  const heard: TimedEvent[] = [];
  return { heard, announcements: new Announcements((event) => heard.push(event), urgent) };
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

test("a listener may wait for something else", () => {
  const { heard, announcements } = listen(isLast);
  announcements.tell(pause);
  expect(heard).toEqual([]);
  announcements.flush();
  expect(heard).toEqual([pause]);
});
