/**
 * A VM on its way whose target is killed, or hangs, long before anything is decided: it goes on
 * where it was, with its device, and its guest finds nothing.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Running } from "../cli/run.ts";
import { MovingVm, reportOf } from "./moving-vm.ts";

const rows = (["server", "QEMU"] as const).flatMap((who) =>
  (["check", "device", "memory"] as const).flatMap((phase) =>
    (["killed", "stopped"] as const).map((what) => ({ who, what, phase })),
  ),
);
/** For the memory of a QEMU that hangs. */
const withinSeconds = "10";

describe("a VM whose target fails goes on where it was:", () => {
  let vm: MovingVm;

  beforeAll(async () => {
    const devices = [{ name: "hello", settings: ["msix=false"] }];
    vm = await MovingVm.start({ guestName: "amd64", devices, memoryMiB: 512 });
    await vm.guest("load msi && complaints > /dev/null");
    await vm.guest("{ until [ -e /stop ]; do selftest; done > /results 2>&1; } & echo $! > /pid");
  });
  afterAll(() => vm?.end());

  const count = async (): Promise<number> => Number(await vm.guest("wc -l < /results"));

  test.each(rows)("its $who is $what as $phase begins", async ({ who, what, phase }) => {
    const to = await vm.stop(true);
    const moving = new Running([...vm.wayTo(to), "--within", withinSeconds]);
    await moving.says(new RegExp(`"phase":"${phase}","step":"begins"`));
    const struck = who === "server" ? to.servers[0] : to.machine;
    if (what === "killed") await struck?.crash();
    else struck?.halt();
    const { outcome, sentence } = reportOf(await moving.result);
    expect(outcome, sentence).toBe("kept");
    expect(sentence).toContain("where it is running");
    await vm.drop(to);
    const before = await count();
    await vm.guest("sleep 1");
    expect(await count()).toBeGreaterThan(before);
  });

  test("all that was computed is right, and the kernel has no complaint", async () => {
    await vm.guest("touch /stop; within 20 test ! -d /proc/$(cat /pid)");
    expect(await vm.guest("grep -vc ' ok ' /results || true")).toBe("0\n");
    expect(await vm.guest("complaints")).toBe("");
  });
});
