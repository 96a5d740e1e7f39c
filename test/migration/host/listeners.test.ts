/** A port is open for as long as somebody may have to call, and no longer. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { hostLinks, type LinkFactory } from "../../../src/host/links/link-factory.ts";
import { defaultBudgets } from "../../../src/migration/hosts/budgets.ts";
import type { JournalRecord } from "../../../src/migration/hosts/journal.ts";
import { temporaryFolder } from "../../support/ferry.ts";
import { TestHost } from "./control.ts";
import { VirtualClock } from "./virtual-clock.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

const address = "tls://127.0.0.1:1";
const lastsMs = 60_000;
const offer = { from: "alice", listen: address, pki: "/pki", lastsMs };

/** A host whose listeners only count. */
function host() {
  const clock = new VirtualClock();
  let count = 0;
  const listen: LinkFactory["listen"] = async ({ address }) => {
    count += 1;
    return { address, close: () => (count -= 1) };
  };
  const at = new TestHost([], { ...hostLinks, listen }, clock);
  return { at, clock, open: () => count };
}

const record = (decision: JournalRecord["decision"]): JournalRecord => ({
  ...{ token: "0".repeat(32), decision, device: "fake", peer: "alice" },
  ...{ address, pki: "/pki", by: "protocol", atMs: 0 },
});

it("closes when the last offer there has ended", async () => {
  const { at, clock, open } = host();
  await at.control.offer(offer);
  await clock.pass(lastsMs / 2);
  await at.control.offer(offer);
  await clock.pass(lastsMs - 1000);
  expect(open()).toBe(1);
  await clock.pass(defaultBudgets.askLastMs + 1000);
  expect([open(), await at.control.status()]).toMatchObject([0, { listening: [] }]);
  await at.control.offer(offer);
  expect(open()).toBe(1);
  at.control.halt();
  await clock.pass(2 * lastsMs);
  expect(open()).toBe(0);
});

it("stays open for a source that has not heard what became of its device", async () => {
  const { at, clock, open } = host();
  await at.control.offer(offer);
  for (const decision of ["expected", "own"] as const) at.journal.records.push(record(decision));
  await clock.pass(100 * lastsMs);
  expect(open()).toBe(1);
  at.journal.records.push(record("done"));
  await clock.pass(2 * defaultBudgets.askLastMs);
  expect(open()).toBe(0);
});

it("leaves no socket behind", async () => {
  const clock = new VirtualClock();
  const at = new TestHost([], hostLinks, clock);
  const path = join(folder.path, "x.mig");
  await at.control.offer({ from: "local", listen: `unix:${path}`, lastsMs });
  expect(existsSync(path)).toBe(true);
  await clock.pass(lastsMs + 1);
  expect(existsSync(path)).toBe(false);
});
