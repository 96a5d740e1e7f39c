import { expect, it } from "vitest";
import { FerryError } from "../../../src/base/errors.ts";
import { filePeer } from "../../../src/host/links/file-target.ts";
import { hostLinks, type LinkFactory } from "../../../src/host/links/link-factory.ts";
import { defaultBudgets } from "../../../src/migration/hosts/budgets.ts";
import type { JournalRecord } from "../../../src/migration/hosts/journal.ts";
import { TestHost } from "./control.ts";
import { VirtualClock } from "./virtual-clock.ts";

const open: JournalRecord = {
  ...{ token: "0".repeat(32), decision: "expected", device: "fake", peer: filePeer },
  ...{ address: "file:state", pki: "", by: "protocol", atMs: 0 },
};

it("a host starts although nothing can be written, and says what it leaves open", async () => {
  const host = new TestHost([]);
  host.journal.records.push(open);
  host.journal.append = async () => {
    throw new FerryError("no-journal", "no space left on device");
  };
  await host.control.recover();
  expect(host.events).toMatchObject([
    { kind: "note", why: expect.stringContaining("no space left on device") },
  ]);
  expect(host.journal.records).toEqual([open]);
});

it("a host whose port is in use when it starts listens as soon as it can", async () => {
  const clock = new VirtualClock();
  let [tries, isFree] = [0, false];
  const listen: LinkFactory["listen"] = async ({ address }) => {
    tries += 1;
    if (!isFree) throw new FerryError("cannot-listen", "cannot listen: EADDRINUSE.");
    return { address, close: () => {} };
  };
  const host = new TestHost([], { ...hostLinks, listen }, clock);
  const own = { ...open, decision: "own", peer: "alice", address: "tls://127.0.0.1:1" } as const;
  host.journal.records.push({ ...own, decision: "expected" }, own);
  await host.control.recover();
  await clock.pass(3 * defaultBudgets.askLastMs);
  expect(tries).toBeGreaterThan(2);
  isFree = true;
  await clock.pass(2 * defaultBudgets.askLastMs);
  const { listening } = (await host.control.status()) as { listening: string[] };
  expect(listening).toEqual(["tls://127.0.0.1:1"]);
  host.control.halt();
});
