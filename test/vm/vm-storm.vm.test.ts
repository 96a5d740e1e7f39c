/**
 * A guest that does to its device whatever it can while its VM moves: it takes base addresses away
 * and gives others, masters and no master, another bus, masks, resets, doorbells without end. Every
 * move comes to an end, the VM runs on one side, the tool says on which, and there the device works
 * afterwards.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { seed } from "../fuzz/random.ts";
import { MovingVm, reportOf } from "./moving-vm.ts";

/** How often it moves, or tries to, in each storm. */
const hops = Number(process.env["FERRY_STORM_HOPS"] ?? 2);
const hopTimeoutMs = 120_000;
/** For a guest that has two processors, both busy, on a machine that has other things to do. */
const patienceSeconds = 50;

const free =
  "if [ -e /sys/bus/pci/drivers/hello/$(hello) ]; " +
  "then hello > /sys/bus/pci/drivers/hello/unbind; fi; at enable 1";
/** It is not told to echo: with settings from two tests it would write to anybody's memory. */
const driven = (kind: string): string =>
  `load ${kind} && { (until [ -e /calm ]; do selftest burst; done) > /dev/null 2>&1 & }`;

/** Not both: QEMU 11.1 ends with an assertion when MSI-X goes after MSI was switched on with it. */
const kinds = ["msi", "msix"] as const;

const stormsOf = (kind: (typeof kinds)[number]) => {
  const settings = ["master", "memory", "bars", "port", kind];
  const rings = settings.map(() => "doorbells");
  return [
    {
      title: "of doorbells and settings, without a driver",
      begin: free,
      acts: [...settings, ...rings],
    },
    { title: "of resets as well", begin: free, acts: [...settings, ...rings, "flr"] },
    { title: "of settings, under a driver at work", begin: driven(kind), acts: settings },
    { title: "of resets as well, under a driver", begin: driven(kind), acts: [...settings, "flr"] },
  ];
};

let vm: MovingVm;
/** Whether a VM has moved through any storm yet. */
let someMoved = false;

/** Moves the VM, or does not; afterwards it is where the tool has said. */
async function hop(): Promise<string> {
  const source = vm.here;
  const target = await vm.stop(true);
  const result = await vm.migrate(target);
  const report = reportOf(result);
  const { outcome, trouble, sentence } = report;
  const told = `${JSON.stringify(report)}\n${result.output}\n${result.errors}`;
  expect(trouble, told).toBe("");
  const hasMoved = outcome === "moved";
  expect(result.code, told).toBe(hasMoved ? 0 : 1);
  expect(sentence, told).toMatch(
    hasMoved ? /^The VM runs with / : /^The VM stays with \S+, where it is running: /,
  );
  someMoved ||= hasMoved;
  const [here, other] = hasMoved ? [target, source] : [source, target];
  vm.here = here;
  // One that has ended answers nothing.
  const state = (await other.machine.qmp.execute("query-status").catch(() => null)) as {
    status?: string;
  } | null;
  expect(state?.status, told).not.toBe("running");
  const before = await vm.guest("cat /acts");
  await vm.guest(`within ${patienceSeconds} sh -c 'test $(cat /acts) -gt ${Number(before)}'`);
  await vm.drop(other);
  return sentence;
}

/** As after a hot-plug: whatever the storm has left, the kernel sets the device up anew. */
const again = (kind: string): string =>
  "at remove 1; echo 1 > /sys/bus/pci/rescan; within 20 hello && " +
  `load ${kind} && complaints > /dev/null; selftest`;

for (const kind of kinds) {
  describe(`a VM with ${kind} moves through a storm (FUZZ_SEED=${seed})`, () => {
    beforeAll(async () => {
      const devices = [{ name: "hello", settings: [`msix=${kind === "msix"}`] }];
      vm = await MovingVm.start({ guestName: "amd64", memoryMiB: 512, devices });
    });
    afterAll(() => vm?.end());

    for (const [index, { title, begin, acts }] of stormsOf(kind).entries()) {
      test(title, { timeout: (hops + 2) * hopTimeoutMs }, async () => {
        await vm.guest("rm -f /calm /acts");
        await vm.guest(begin);
        const storm = `storm $(hello) ${seed + index} ${acts.join(" ")}`;
        await vm.guest(`{ ${storm} > /told 2>&1 & echo $! > /pid; }; within 20 test -s /acts`);
        for (let n = 1; n <= hops; n++) console.log(`vm: storm ${title}: ${await hop()}`);
        await vm.guest("touch /calm; within 50 test ! -d /proc/$(cat /pid)");
        const told = await vm.guest("cat /told");
        for (const act of acts) expect(told).toMatch(new RegExp(`^storm ${act} [1-9]`, "m"));
        const results = (await vm.guest(again(kind))).split("\n").filter((line) => line !== "");
        expect(results.length).toBeGreaterThan(0);
        expect(results.filter((line) => !/^RESULT \S+ ok /.test(line))).toEqual([]);
        expect(await vm.guest("complaints")).toBe("");
      });
    }
  });
}

test("a storm does not keep a VM for ever: at least one move went through", () =>
  expect(someMoved).toBe(true));
