/**
 * The server of a running QEMU's device is upgraded, to the same version and to another one, while
 * the guest's driver is at work: neither the guest nor QEMU must find anything, nor when it fails.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { askControl } from "../../src/host/control-line.ts";
import { ferry } from "../cli/run.ts";
import { isAlive } from "../support/alive.ts";
import { failing, standsStill } from "../support/failing-versions.ts";
import { installVersion, program } from "../support/next-version.ts";
import { heldMsMax } from "./caps.ts";
import { until } from "./deadline.ts";
import { type GuestWork, helloWork, sec2Work } from "./guest-work.ts";
import { servers, WorkingVm } from "./working-vm.ts";

/** How often the device's server is upgraded in each guest. */
const upgrades = Number(process.env["FERRY_UPGRADES"] ?? 4);

const rows: ReadonlyArray<{ readonly title: string; readonly work: GuestWork }> = [
  { title: "hello in an x86 guest, with msix interrupts", work: helloWork("msix") },
  { title: "SEC2 with Linux's driver in an arm64 guest", work: sec2Work(1024) },
];

/** Of those that fail, the ones that know nothing of `hello`. */
const failures = [...failing.filter(({ says }) => !says.source.includes("hello")), standsStill];

/** Successors have the log of the first one, which must not be a pipe to this process. */
const quiet = ["sh", "-c", 'exec "$0" "$@" 2> /dev/null'];

describe.each(rows)("$title", ({ title, work }) => {
  let vm: WorkingVm;
  let path: string;
  /** The version that the checkout has. */
  let version: string;

  const serving = async () =>
    (await askControl(`${path}.ctl`, { method: "manifest" })) as { version: string; pid: number };

  beforeAll(async () => {
    vm = await WorkingVm.start(work, servers(1, quiet));
    path = vm.servers[0]?.socketPath as string;
    version = (await serving()).version;
  });
  afterAll(async () => {
    const { pid } = await serving();
    process.kill(pid, "SIGTERM");
    await until(
      () => !isAlive(pid) || undefined,
      10_000,
      () => "end of the last server",
    );
    await vm.end();
  });

  test(`works on through ${upgrades} upgrades`, { timeout: upgrades * 60_000 }, async () => {
    const next = installVersion(vm.folder, "9.0.0");
    for (let i = 0; i < upgrades; i++) {
      const isNext = i % 2 === 0;
      const before = await serving();
      const done = await ferry("upgrade", path, "--json", ...(isNext ? ["--with", next] : []));
      expect(done).toMatchObject({ code: 0, errors: "" });
      const { waitedMs } = JSON.parse(done.output) as { waitedMs: number };
      expect((await serving()).version).toBe(isNext ? "9.0.0" : version);
      expect(isAlive(before.pid)).toBe(false);
      console.log(`vm: ${title}: upgraded, waited for ${waitedMs.toFixed(1)} ms`);
      expect(waitedMs).toBeLessThanOrEqual(heldMsMax);
      await vm.watch.expectGoesOn();
    }
  });

  test.each(failures)("works on with the old one when the successor $what", async (failure) => {
    const at = `9.1.${failures.indexOf(failure)}`;
    const before = await serving();
    const next = installVersion(vm.folder, at, ...failure.edits);
    const done = await ferry("upgrade", path, "--with", next, "--within", "6");
    expect(done.code).toBe(1);
    expect(done.errors).toMatch(failure.says);
    expect(await serving()).toMatchObject({ pid: before.pid });
    await vm.watch.expectGoesOn();
  });

  test("works on with the old one when the successor ends at once", async () => {
    const before = await serving();
    const done = await ferry("upgrade", path, "--with", program(vm.folder, "ends", "exit 3"));
    expect(done.errors).toContain("ended with exit code 3");
    expect(await serving()).toMatchObject({ pid: before.pid });
    await vm.watch.expectGoesOn();
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    vm.watch.expectRight());
});
