import { describe, expect, it } from "vitest";
import { defaultConfiguration } from "../../../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../../../src/devices/hisi-acc/qm/pf.ts";
import { Isolation, Message } from "../../../../src/spec/hisi-qm.ts";
import { at, command, makeBench } from "./driver.ts";
import { ManualCompute, XorEngine } from "./xor-engine.ts";

function listening(functionCaps?: number) {
  const bench = makeBench(functionCaps === undefined ? {} : { functionCaps });
  const { driver } = bench;
  driver.write(at.ifcMask, 0);
  /** `qm_get_mb_cmd` and the acknowledgement before it is dealt with. */
  const hear = (): bigint => {
    expect(driver.read(at.ifcStatus)).toBe(1);
    expect(driver.command(command.receive, 0, 0, true)).toBe(0);
    const message = driver.result;
    driver.write(at.ifcSource, driver.read(at.ifcSource) | 1);
    return message;
  };
  /** `qm_ping_pf`. */
  const say = (message: number, data = 0): void => {
    expect(driver.command(command.send, 0, BigInt(message) | (BigInt(data) << 32n))).toBe(0);
    driver.write(at.ifcSet, driver.read(at.ifcSet) | 1);
    expect(driver.read(at.ifcSet), "the PF has taken it").toBe(0);
  };
  return { ...bench, hear, say };
}

describe("messages", () => {
  it("about a reset go to and fro", () => {
    const { driver, pf, hear, say } = listening();
    expect(pf.prepareReset(1)).toBe(true);
    expect(driver.irqs.map((irq) => irq.take())).toEqual([0, 0, 1]);
    expect(hear()).toBe(BigInt(Message.pfFlrPrepare));
    expect([driver.read(at.ifcSource), driver.read(at.ifcStatus)]).toEqual([0, 0]);
    expect(pf.answer(1)).toBe("none");
    say(Message.vfPrepareDone);
    expect(pf.answer(1)).toBe("prepared");
    pf.resetDone(1);
    expect(driver.read(at.ifcSource), "as the driver polls it").toBe(1);
    expect(hear()).toBe(BigInt(Message.pfResetDone));
    say(Message.vfStartFailed);
    expect(pf.answer(1)).toBe("not-started");
  });

  it("ask for the function's share and for the accelerator's isolation", () => {
    const { pf, hear, say } = listening();
    say(Message.vfGetQos);
    expect(hear()).toBe(BigInt(Message.pfSetQos) | (100_000n << 32n));
    pf.isolate(true, 7);
    const isolation = BigInt(Isolation.pack({ isolated: true, threshold: 7 })) << 32n;
    expect(hear()).toBe(BigInt(Message.pfSetIsolation) | isolation);
    say(Message.vfGetIsolation);
    expect(hear()).toBe(BigInt(Message.pfSetIsolation) | isolation);
    pf.resetDone(1);
    expect(hear()).toBe(BigInt(Message.pfResetDone) | isolation);
  });

  it("wait in order until the ones before are acknowledged, and not too many of them", () => {
    const { driver, pf, hear, say } = listening();
    for (let i = 0; i < 4; i++) pf.isolate(false, i);
    expect(pf.prepareReset(1), "too many wait").toBe(false);
    for (let i = 0; i < 100; i++) say(Message.vfGetQos);
    for (let i = 0n; i < 4n; i++) {
      expect(driver.irqs.map((irq) => irq.take())).toEqual([0, 0, 1]);
      expect(hear()).toBe(BigInt(Message.pfSetIsolation) | (i << 32n));
    }
    expect(driver.read(at.ifcSource)).toBe(0);
    expect(driver.irqs.map((irq) => irq.take())).toEqual([0, 0, 0]);
    driver.write(at.ifcSource, 1);
    expect(driver.command(command.receive)).toBe(0);
    expect(driver.result).toBe(0n);
  });

  it("wait for the mask", () => {
    const { driver, pf } = listening();
    driver.write(at.ifcMask, 1);
    pf.prepareReset(1);
    expect([driver.read(at.ifcSource), driver.read(at.ifcStatus)]).toEqual([1, 0]);
    expect(driver.irqs[2]?.take()).toBe(0);
    driver.write(at.ifcMask, 0);
    expect([driver.irqs[2]?.take(), driver.read(at.ifcStatus)]).toEqual([1, 1]);
  });

  it("of any content are taken, and a VF without them gets none", () => {
    const { say, pf } = listening();
    for (const message of [0, 1, 3, 12, 13, 0xffffffff]) say(message, 0xffffffff);
    expect(pf.answer(1)).toBe("none");
    expect(listening(0x0601).pf.prepareReset(1)).toBe(false);
  });
});

describe("the PF", () => {
  const vfParts = (queues: number) => ({
    engine: new XorEngine(),
    compute: new ManualCompute(),
    configuration: { ...defaultConfiguration, queues },
  });

  it("deals out its queues", () => {
    const pf = new Pf({ queues: 100, queueBase: 20 });
    pf.createVf(vfParts(64));
    expect(() => pf.createVf(vfParts(17))).toThrow("16 queues are left");
    pf.createVf(vfParts(16));
    expect(pf.vfs).toHaveLength(2);
    expect(() => pf.createVf(vfParts(1))).toThrow("0 queues are left");
    expect(() => pf.answer(3)).toThrow("there is no VF 3");
  });

  it("has 63 VFs at most", () => {
    const pf = new Pf();
    for (let i = 0; i < 63; i++) pf.createVf(vfParts(1));
    expect(() => pf.createVf(vfParts(1))).toThrow("no VF");
  });

  it("knows each VF's faults apart", () => {
    const { driver, pf } = makeBench();
    pf.createVf(vfParts(1));
    driver.doorbell(999, 0, 1);
    expect([pf.faults(1), pf.faults(2)]).toEqual([1, 0]);
  });
});

describe("a configuration", () => {
  it.each([
    [{ queues: 0 }, "queues=0"],
    [{ queues: 1025 }, "queues=1025"],
    [{ queues: 1.5 }, "queues=1.5"],
    [{ sqDepth: 1 }, "sqDepth=1"],
    [{ cqDepth: 4097 }, "cqDepth=4097"],
    [{ eqDepth: 65_536 }, "eqDepth=65536"],
    [{ aeqDepth: Number.NaN }, "aeqDepth=NaN"],
    [{ vectors: "four" as "split" }, "vectors=four"],
    [{ functionCaps: 0x6f00 }, "functionCaps=0x6f00"],
    [{ functionCaps: 0x7f01 }, "functionCaps=0x7f01"],
    [{ capabilities: { 12544: 1 } }, "capability offset"],
    [{ capabilities: { 12582: 1 } }, "no multiple of 4"],
    [{ capabilities: { 12580: -1 } }, "capability 0x3124"],
  ])("such as %o is refused with a sentence", (changes, sentence) => {
    expect(() => makeBench(changes)).toThrow(sentence);
  });

  it("shows in the registers", () => {
    const { driver } = makeBench({
      queues: 1,
      sqDepth: 64,
      cqDepth: 128,
      eqDepth: 256,
      aeqDepth: 512,
      capabilities: { 12612: 0x5, 12624: 0x6 },
    });
    const registers = [0x3104, 0x3108, 0x3124, 0x3144, 0x3150];
    expect(registers.map((each) => driver.read(each))).toEqual([
      0x02000100, 0x00800040, 0x7c77, 5, 6,
    ]);
    driver.command(command.vft, 0, 0, true);
    expect(driver.result).toBe(0x0000_1010_0000_0000n);
  });
});
