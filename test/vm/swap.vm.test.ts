/**
 * A device changes its server under a running QEMU, there and back, while the guest's driver is at
 * work: neither the guest nor QEMU must find anything.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { ferry } from "../cli/run.ts";
import { busyCommand, usualMode } from "./hisi-algorithms.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { type GuestName, suites } from "./recipe.ts";
import { Server } from "./server.ts";

/** How often the device changes its server in each guest. */
const swaps = 6;

interface Row {
  readonly title: string;
  readonly guestName: GuestName;
  readonly device: string;
  readonly memoryMiB: number;
  /** Sets the driver up and gives it work without end. */
  readonly begin: string;
  /** How much work has been done, as a number that grows. */
  readonly done: string;
  /** Ends the work and prints how all of it went. */
  readonly end: string;
  readonly right: RegExp;
}

/** A guest that has its driver test a device without end. */
const hello = (interrupts: "msix" | "intx"): Row => ({
  title: `hello in an x86 guest, with ${interrupts} interrupts`,
  ...{ guestName: "amd64", device: "hello", memoryMiB: 512 },
  begin:
    `load ${interrupts} && complaints > /dev/null ` +
    "&& { (until [ -e /stop ]; do selftest; done > /results 2>&1) & echo $! > /pid; }",
  done: "wc -l < /results",
  end: "touch /stop; within 20 test ! -d /proc/$(cat /pid); sort /results | uniq -c",
  right: /^ +\d+ RESULT \S+ ok /,
});

const rows: readonly Row[] = [
  hello("msix"),
  hello("intx"),
  {
    title: "SEC2 with Linux's driver in an arm64 guest",
    ...{ guestName: "arm64", device: "hisi-sec2", memoryMiB: 1024 },
    begin:
      "prerequisites && insmod hisi_sec2.ko && within 200 tested sec2 && complaints > /dev/null " +
      `&& busy sec2 ${busyCommand(usualMode(suites.stable))}`,
    done: "counter sec2 recv_cnt",
    end: "idle sec2",
    right: /^ +1 RESULT \S+ ok requests=\d+ errors=0$/,
  },
];

describe.each(rows)("$title", ({ title, guestName, device, memoryMiB, ...row }) => {
  const folder = mkdtempSync(join(tmpdir(), "fvs-"));
  let servers: Server[] = [];
  let machine: Machine;

  beforeAll(async () => {
    const start = (name: string) => Server.start(device, join(folder, name));
    servers = await Promise.all(["a", "b"].map(start));
    const devices = [{ socketPath: servers[0]?.socketPath as string, plugged: true }];
    const guest = await prepare(guestName);
    machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices });
    await machine.guest(row.begin);
  });
  afterAll(async () => {
    await machine?.stop();
    for (const server of servers) await server.stop();
    rmSync(folder, { recursive: true });
  });

  const count = async (): Promise<number> => Number(await machine.guest(row.done));

  test(`works on through ${swaps} swaps`, async () => {
    for (let i = 0; i < swaps; i++) {
      const [from, to] = [servers[i % 2], servers[(i + 1) % 2]] as [Server, Server];
      const { output, errors } = await ferry(
        "swap",
        from.socketPath,
        "--to",
        to.socketPath,
        "--json",
      );
      expect(errors).toBe("");
      const report = JSON.parse(output) as SwapReport;
      expect(report).toMatchObject({ connected: true, trouble: "" });
      expect([from, to].map((server) => server.holdsGuestMemory)).toEqual([false, true]);
      console.log(`vm: ${title}: swapped, held for ${report.heldMs.toFixed(1)} ms`);
      const before = await count();
      await machine.guest("sleep 1");
      expect(await count()).toBeGreaterThan(before);
    }
  });

  test("all that was computed is right, and the kernel has no complaint", async () => {
    const lines = (await machine.guest(row.end)).split("\n").filter((line) => line !== "");
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => !row.right.test(line))).toEqual([]);
    expect(await machine.guest("complaints")).toBe("");
  });
});
