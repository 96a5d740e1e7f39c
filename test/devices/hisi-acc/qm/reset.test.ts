import { describe, expect, it } from "vitest";
import { CapabilityId } from "../../../../src/spec/pci.ts";
import { Messenger } from "../../../device/vmm.ts";
import { at, command, makeBench } from "./driver.ts";

const flr = 1 << 15;
const capabilities = [0x3100, 0x3104, 0x3108, 0x310c, 0x3110, 0x3114, 0x3118, 0x311c, 0x3144];

type Bench = ReturnType<typeof makeBench>;
const ways: [string, (bench: Bench) => void][] = [
  ["DEVICE_RESET", ({ vf }) => vf.reset()],
  ["an FLR", ({ vmm }) => vmm.writeConfig(vmm.capability(CapabilityId.pciExpress) + 8, flr, 2)],
];

describe.each(ways)("%s", (_name, reset) => {
  it("leaves the capabilities and takes all else away", () => {
    const bench = makeBench();
    const { driver, vmm } = bench;
    const before = capabilities.map((each) => driver.read(each));
    driver.start();
    const pair = driver.queue(3);
    pair.submit(1, 1, 1, 1);
    reset(bench);
    expect(capabilities.map((each) => driver.read(each))).toEqual(before);
    expect(driver.command(command.vft, 0, 0, true)).toBe(0);
    expect(driver.result).toBe(0x0001_f010_0000_0000n);
    expect(
      [at.aeqMask, at.eqMask, at.ifcMask, at.vfState].map((each) => driver.read(each)),
    ).toEqual([1, 1, 1, 1]);
    for (let dword = 0; dword < 7; dword++) expect(driver.read(at.eqc + 4 * dword)).toBe(0);
    expect(driver.command(command.sqcTable, 0, 0, true)).toBe(0);
    expect(driver.result).toBe(0n);
    pair.ring();
    vmm.run();
    expect(pair.poll(), "the queue is not known").toEqual([]);
  });

  it("ends what is under way, and the driver starts anew", () => {
    const bench = makeBench();
    const { driver, vmm, vf, compute, engine } = bench;
    const messenger = new Messenger(4096);
    vf.attach(messenger);
    vmm.mapForMessages(0, 4096);
    driver.start();
    const pairs = [driver.queue(0), driver.queue(1)] as const;
    pairs[0].submit(0, 0, 16, 1);
    pairs[1].submit(0, 0, 0, 1, true);
    vmm.run();
    driver.storeMailbox(0x2000 | command.flush, 0, 0);
    expect([messenger.waiting.length, compute.waiting.length]).toEqual([1, 1]);
    reset(bench);
    expect([messenger.waiting, compute.waiting, vf.busy]).toEqual([[], [], false]);
    expect(driver.read(at.mailbox)).toBe(0);
    driver.start();
    for (const pair of pairs) {
      pair.restart();
      pair.submit(0, 0, 0, 0x99);
    }
    vmm.run();
    for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
    expect(engine.served).toEqual([0x99, 0x99]);
  });
});

describe("the client", () => {
  it("can go at any time", () => {
    const { driver, vf, vmm, compute } = makeBench();
    driver.start();
    const pair = driver.queue(0);
    pair.submit(0, 0, 0, 1, true);
    vmm.run();
    vf.detach();
    expect(compute.waiting).toEqual([]);
    vf.reset();
    expect(vf.busy).toBe(false);
  });
});
