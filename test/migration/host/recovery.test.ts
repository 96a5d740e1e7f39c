import { expect, it } from "vitest";
import { FerryError } from "../../../src/base/errors.ts";
import { filePeer } from "../../../src/host/links/file-target.ts";
import type { JournalRecord } from "../../../src/migration/hosts/journal.ts";
import { TestHost } from "./control.ts";

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
