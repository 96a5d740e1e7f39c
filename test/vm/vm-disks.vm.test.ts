/**
 * A VM with a disk and a network card beside its device. The image is one file, which each QEMU
 * locks that uses it: it is used where the VM is, and nowhere else.
 */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blackoutMsMax } from "./caps.ts";
import { Child } from "./child.ts";
import { until } from "./deadline.ts";
import { type GuestWork, helloWork, Watch } from "./guest-work.ts";
import { HeldMove } from "./held-move.ts";
import { writersByte } from "./machine.ts";
import { MovingVm, reportOf } from "./moving-vm.ts";
import { Network } from "./network.ts";
import { prepare } from "./prepare.ts";

/** As many, and as large, as guest/blocks.c has them. */
const blocks = 64;
const blockBytes = 4096;

const folder = mkdtempSync(join(tmpdir(), "fvd-"));
const image = join(folder, "disk");
const network = new Network(join(folder, "network"));

const disk = [
  ...["-drive", `if=none,id=disk,format=raw,file=${image}`],
  ...["-device", "virtio-blk-pci,drive=disk"],
];
const card = [
  ...["-netdev", `stream,id=net,addr.type=unix,addr.path=${network.path}`],
  ...["-device", "virtio-net-pci,netdev=net"],
];

const hello = helloWork("msix");
const modules = "failover net_failover virtio_net virtio_blk";
/** Three things at once; nobody answers for the address that is pinged but the network itself. */
const work: GuestWork = {
  ...hello,
  begin:
    `${hello.begin} && for module in ${modules}; do insmod $module.ko || exit; done && ` +
    "{ blocks /dev/vda > /blocks 2>&1 & echo $! > /blocks.pid; } && " +
    "ip addr add 10.0.0.2/24 dev eth0 && ip link set eth0 up && " +
    "arp -s 10.0.0.1 52:54:00:00:00:01 && { until [ -e /stop ]; do " +
    "ping -c 1 -W 1 10.0.0.1 > /dev/null && echo >> /pings; done & } && " +
    "within 20 test -s /pings && within 20 test -s /blocks",
  grows: `${hello.grows}; wc -l < /blocks; wc -l < /pings`,
  errors: `${hello.errors}; grep -vc ' ok ' /blocks`,
  // Blocks end with the first failure.
  end: `${hello.end}; within 20 test ! -d /proc/$(cat /blocks.pid); tail -n 1 /blocks`,
  right: new RegExp(`${hello.right.source}|^RESULT blocks ok `),
};

describe("a VM with a disk and a network card", () => {
  let vm: MovingVm;
  const watch = new Watch(work, (...command) => vm.guest(...command));

  beforeAll(async () => {
    writeFileSync(image, "");
    truncateSync(image, blocks * blockBytes);
    vm = await MovingVm.start({ ...work, parts: [...disk, ...card] });
    await watch.begin();
  });
  afterAll(async () => {
    await vm?.end();
    network.close();
    rmSync(folder, { recursive: true });
  });

  const expectGoesOn = async (): Promise<void> => {
    expect(vm.here.machine.owns(image)).toBe(true);
    await watch.expectGoesOn();
  };

  test.each(["there", "back"])("moves %s, where it has all that it wrote", async () => {
    const { blackoutMs } = await vm.hop();
    console.log(`vm: disk and network: stood still for ${blackoutMs?.toFixed(1)} ms`);
    expect(blackoutMs).toBeGreaterThan(0);
    expect(blackoutMs).toBeLessThanOrEqual(blackoutMsMax);
    await expectGoesOn();
  });

  test("goes on writing where it was when its device does not fit", async () => {
    const { outcome, sentence } = await vm.refusedHop(["msix=false"]);
    expect(outcome, sentence).toBe("kept");
    await expectGoesOn();
  });

  test("goes on writing where it was when the target dies at the switch", async () => {
    const { outcome, sentence } = await vm.brokenHop();
    expect(outcome, sentence).toBe("kept");
    await expectGoesOn();
  });

  test("takes an image up again that it has let go, and that nobody else has", async () => {
    const to = await vm.stop(true);
    const moving = new HeldMove(vm.wayTo(to));
    await moving.reaches("restore");
    for (const { machine } of [vm.here, to]) expect(machine.owns(image)).toBe(false);
    await to.machine.crash();
    const { outcome, sentence } = reportOf(await moving.ends());
    expect(outcome, sentence).toBe("kept");
    await vm.drop(to);
    await expectGoesOn();
  });

  test("stands still at a target whose image is in use, until it is free", async () => {
    const from = vm.here;
    const to = await vm.stop(true);
    const moving = new HeldMove(vm.wayTo(to));
    await moving.reaches("run");
    const { emulator } = await prepare("amd64");
    const thief = new Child([...emulator, "-nodefaults", "-display", "none", "-S", ...disk]);
    await until(
      () => thief.locks(image, writersByte) || undefined,
      10_000,
      () => "a lock",
    );
    const { outcome, sentence } = reportOf(await moving.ends());
    expect(outcome, sentence).toBe("moved");
    expect(sentence).toMatch(/, but: \S+ refused cont: Failed to get "write" lock$/);
    await thief.end("SIGKILL", 10_000);
    await to.machine.qmp.execute("cont");
    vm.here = to;
    await vm.drop(from);
    await watch.expectGoesOn(true);
  });

  test("all that was written is right, in the guest and in the image", async () => {
    await watch.expectRight();
    const last = /pass=(\d+)/.exec(await vm.guest("tail -n 1 /blocks"))?.[1] ?? "";
    const bytes = readFileSync(image);
    const passes = Array.from({ length: blocks }, (_, n) => bytes.readBigUInt64LE(n * blockBytes));
    expect(passes.filter((pass) => pass !== BigInt(last))).toEqual([]);
  });
});
