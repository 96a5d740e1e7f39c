/** What was to be told the guest is told, at its new place or where it stayed. */
import { describe, expect, it } from "vitest";
import { Message } from "../../../src/spec/hisi-qm.ts";
import { MigState, PciIrq } from "../../../src/spec/vfio.ts";
import { at, command, ring } from "../../devices/hisi-acc/qm/driver.ts";
import { arrive, boot, controls, Host, type Machine } from "./bench.ts";

const { running, stop } = MigState;
const irqs = ({ driver }: Machine): number[] => driver.irqs.map((irq) => irq.take());

/** Moves the guest, or only stops it for a while. */
function away(source: Machine, how: "moved" | "stopped", control: "own" | "silicon"): Machine {
  if (how === "stopped") {
    expect(source.host.move(stop)).toMatchObject({ result: 0 });
    expect(source.host.move(running)).toMatchObject({ result: 0 });
    return source;
  }
  const stream = source.host.save();
  const host = new Host(control);
  expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
  const target = arrive(source, host);
  expect(host.move(running)).toMatchObject({ result: 0 });
  return target;
}

const ways = controls.flatMap((control) => [
  [control, "moved"] as const,
  [control, "stopped"] as const,
]);

describe.each(ways)("interrupts of a function (%s, %s)", (control, how) => {
  it("are raised again for events that wait", () => {
    const source = boot(new Host(control));
    source.pairs[0]?.submit(0, 0, 0, 1);
    source.host.vmm.run();
    expect(irqs(source)).toEqual([1, 0, 0]);
    const target = away(source, how, control);
    expect(irqs(target), "the first one may have been lost").toEqual([1, 0, 0]);
    expect(target.driver.events()).toEqual([{ queue: 0, type: 0 }]);
    expect(target.pairs[0]?.poll()).toHaveLength(1);
    target.pairs[1]?.submit(0, 0, 0, 1);
    target.host.vmm.run();
    expect(irqs(target)).toEqual([1, 0, 0]);
  });

  it("are not raised for nothing", () => {
    const source = boot(new Host(control));
    const target = away(source, how, control);
    target.host.vmm.run();
    expect(irqs(target)).toEqual([0, 0, 0]);
  });

  it("wait for their mask", () => {
    const source = boot(new Host(control));
    source.driver.write(at.eqMask, 1);
    source.pairs[0]?.submit(0, 0, 0, 1);
    source.host.vmm.run();
    const target = away(source, how, control);
    target.host.vmm.run();
    expect(irqs(target)).toEqual([0, 0, 0]);
    expect(target.driver.read(at.eqMask)).toBe(1);
    target.driver.write(at.eqMask, 0);
    expect(irqs(target)).toEqual([1, 0, 0]);
    expect(target.driver.events()).toHaveLength(1);
  });

  it("tell of errors too", () => {
    const source = boot(new Host(control));
    source.pairs[1]?.submit(2 ** 40, 0, 16, 1);
    source.host.vmm.run();
    expect(irqs(source)).toEqual([0, 1, 0]);
    const target = away(source, how, control);
    expect(irqs(target)).toEqual([0, 1, 0]);
    expect(target.driver.errors()).toEqual([{ queue: 9, type: 2 }]);
    target.pairs[1]?.submit(0, 0, 0, 1);
    target.pairs[0]?.submit(0, 0, 0, 1);
    target.host.vmm.run();
    expect(
      target.pairs.map((pair) => pair.poll().length),
      "it has stopped",
    ).toEqual([1, 0]);
    target.pairs[1]?.restart();
    target.pairs[1]?.submit(0, 0, 0, 1);
    target.host.vmm.run();
    expect(target.pairs[1]?.poll()).toHaveLength(1);
  });

  it("of a full event queue are told", () => {
    const queues = Array.from({ length: 6 }, (_, i) => [i, 4] as const);
    const source = boot(new Host(control), queues, 4);
    for (const pair of source.pairs) pair.submit(0, 0, 0, 1);
    source.host.vmm.run();
    const target = away(source, how, control);
    target.host.vmm.run();
    expect(target.driver.errors()).toEqual([{ queue: 0, type: 1 }]);
    expect(target.driver.events()).toHaveLength(3);
    expect(target.pairs.map((pair) => pair.poll().length)).toEqual([1, 1, 1, 1, 1, 1]);
  });

  it("come for the completion that follows an armed queue", () => {
    const source = boot(new Host(control));
    for (const pair of source.pairs) pair.poll(true);
    const target = away(source, how, control);
    target.driver.doorbell(0, ring.cq, 0, 1);
    target.pairs[0]?.submit(0, 0, 0, 1);
    target.host.vmm.run();
    expect(irqs(target)).toEqual([1, 0, 0]);
  });

  it("of a function that is not told of them are none", () => {
    const source = boot(new Host(control));
    source.host.vmm.disable(PciIrq.msi);
    source.pairs[0]?.submit(0, 0, 0, 1);
    source.host.vmm.run();
    const target = away(source, how, control);
    expect(target.driver.events()).toHaveLength(1);
  });
});

describe.each(["moved", "stopped"] as const)("messages of the PF (%s)", (how) => {
  it("that wait are there, in order, and interrupt once more", () => {
    const source = boot(new Host("own"));
    const { pf } = source.host;
    pf.isolate(true, 1);
    pf.resetDone(1);
    const target = away(source, how, "own");
    expect([target.driver.read(at.ifcSource), irqs(target)]).toEqual([1, [0, 0, 0]]);
    target.driver.write(at.ifcMask, 0);
    expect(irqs(target)).toEqual([0, 0, 1]);
    for (const message of [Message.pfSetIsolation, Message.pfResetDone]) {
      target.driver.command(command.receive, 0, 0, true);
      expect(Number(target.driver.result & 0xffn)).toBe(message);
      target.driver.write(at.ifcSource, 1);
    }
    expect(target.driver.read(at.ifcSource)).toBe(0);
  });

  it("to it are sent from where the guest is", () => {
    const source = boot(new Host("own"));
    source.driver.command(command.send, 0, Message.vfPrepareDone);
    const target = away(source, how, "own");
    target.driver.write(at.ifcSet, 1);
    expect(target.host.pf.answer(1)).toBe("prepared");
  });

  it("that come while the function stands still are not lost", () => {
    const source = boot(new Host("own"));
    source.driver.write(at.ifcMask, 0);
    source.host.move(stop);
    source.host.pf.isolate(false, 3);
    source.host.move(running);
    expect([source.driver.read(at.ifcStatus), irqs(source)]).toEqual([1, [0, 0, 1]]);
  });
});
