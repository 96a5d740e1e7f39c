/** What `ferry demo` counts, by the number of each request: no fault hides another one. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { account } from "../../src/cli/demo/account.ts";
import { create } from "../../src/devices/hisi-sec2/index.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { encodeSec2 } from "../../src/guest/sec2-request.ts";
import { Bd3 } from "../../src/spec/hisi-sec2.ts";
import { temporaryFolder } from "../support/ferry.ts";

const requests = 5;
const [key, iv] = [new Uint8Array(16), new Uint8Array(16)];
const request = { algorithm: "cbc(aes)", encrypt: true, key, iv, data: iv } as const;
const options = { algType: 0, sqeBytes: Bd3.size, tagAt: Bd3.offset.tag, requestBytes: 4096 };

/** Has a device run requests, the entry of the last one being what `last` makes of its ring. */
function run(ledger: string, last: (ring: Uint8Array, at: readonly number[]) => void): number {
  const driver = new Sec2Driver(create({ ledger }), { batches: true });
  const queue = driver.qm.createQueue({ ...options, depth: requests });
  const places: number[] = [];
  const calls = Array.from({ length: requests }, () =>
    queue.submit((sqe, at, memory) => {
      places.push(at);
      return encodeSec2(request, sqe, at, memory);
    }),
  );
  last(driver.qm.memory.ram.bytes, places);
  for (const call of calls) driver.qm.wait(call);
  driver.close();
  return driver.qm.submitted;
}

test("every request is run once", () => {
  using folder = temporaryFolder();
  const ledger = join(folder.path, "ledger");
  const submitted = run(ledger, () => {});
  expect(submitted).toBe(requests);
  expect(account(submitted, [ledger])).toEqual({ never: 0, twice: 0 });
});

test("a request that is run twice does not hide one that is not run, as many as were ended", () => {
  using folder = temporaryFolder();
  const ledger = join(folder.path, "ledger");
  const submitted = run(ledger, (ring, at) => {
    const [before, last] = at.slice(-2) as [number, number];
    ring.copyWithin(last, before, before + Bd3.size);
  });
  expect(account(submitted, [ledger])).toEqual({ never: 1, twice: 1 });
});

test("the ledgers of all hosts count, and what nobody has asked for is once too often", () => {
  using folder = temporaryFolder();
  const ledgers = [[0, 1, 1], [2, 7], []].map((tags, host) => {
    const path = join(folder.path, String(host));
    writeFileSync(path, new Uint8Array(BigUint64Array.from(tags, BigInt).buffer));
    return path;
  });
  expect(account(4, ledgers)).toEqual({ never: 1, twice: 2 });
});

test("a ledger that cannot be written is a sentence", () => {
  using folder = temporaryFolder();
  expect(() => create({ ledger: folder.path })).toThrow(/^ledger=.* cannot be written: .*\.$/);
});
