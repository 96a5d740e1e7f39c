/**
 * A device writes to memory while QEMU copies that memory, and QEMU does not see it: a page that
 * was copied before is stale on the target, because nothing says that it has changed. A VM that
 * `ferry vm migrate` moves has none of these; the same one, with a server that is not told to show
 * what its device writes, has.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { MovingVm, type MovingVmKind } from "./moving-vm.ts";

const rows: ReadonlyArray<Pick<MovingVmKind, "iommu"> & { readonly title: string }> = [
  { title: "a device that writes to memory" },
  { title: "a device that writes to memory behind an IOMMU", iommu: "intel" },
];

/** As many as guest/hello/keep.c has the device write to. */
const pages = 256;
const timeoutMs = 60_000;
/** Slow enough for the device to write to many of them after they were copied. */
const bytesPerSecond = 32 << 20;

describe.each(rows)("$title", ({ title, ...where }) => {
  let vm: MovingVm;

  const kept = async (): Promise<{ rounds: number; stale: number }> => {
    const text = await vm.guest("at kept");
    const match = /^rounds=(\d+) stale=(\d+)\n$/.exec(text);
    expect(match, text).not.toBeNull();
    return { rounds: Number(match?.[1]), stale: Number(match?.[2]) };
  };

  /** How many pages were stale so far, once each that was written before has been looked at. */
  const staleSoFar = async (): Promise<number> => {
    const { rounds } = await kept();
    const endMs = Date.now() + timeoutMs;
    let now = await kept();
    while (now.rounds <= rounds + pages && Date.now() < endMs) now = await kept();
    expect(now.rounds).toBeGreaterThan(rounds + pages);
    return now.stale;
  };

  const copySlowly = async (): Promise<void> => {
    const { qmp } = vm.here.machine;
    await qmp.execute("migrate-set-parameters", { "max-bandwidth": bytesPerSecond });
  };

  beforeAll(async () => {
    const devices = [{ name: "hello", settings: ["msix=false"] }];
    vm = await MovingVm.start({ guestName: "amd64", memoryMiB: 512, devices, ...where });
    await vm.guest("load msi && complaints > /dev/null && { at keep 1 & echo $! > /pid; }");
    expect(await staleSoFar()).toBe(0);
  });
  beforeEach(copySlowly);
  afterAll(() => vm?.end());

  test("no page is stale where its VM has moved to", async () => {
    const { notes } = await vm.hop();
    console.log(`vm: ${title}: ${notes.join(" ")}`);
    expect(await staleSoFar()).toBe(0);
  });

  test("some are where QEMU was not shown them", async () => {
    const before = await staleSoFar();
    await vm.blindHop();
    const stale = (await staleSoFar()) - before;
    console.log(`vm: ${title}: ${stale} of ${pages} pages were stale`);
    expect(stale).toBeGreaterThan(0);
  });

  test("no other one is when its VM moves on as usual", async () => {
    const before = await staleSoFar();
    await vm.hop();
    expect(await staleSoFar()).toBe(before);
    await vm.guest("kill $(cat /pid); within 20 test ! -d /proc/$(cat /pid)");
    expect(await vm.guest("selftest")).not.toContain("FAIL");
    expect(await vm.guest("complaints")).toBe("");
  });
});
