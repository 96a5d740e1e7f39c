/** A function whose guest's memory only messages reach moves with its requests. */
import { describe, expect, it } from "vitest";
import { Direction } from "../../../src/memory/transfer.ts";
import {
  commitMs,
  finishMs,
  writeBackMs,
} from "../../../src/migration/drivers/hisi-acc/own-control.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { Messenger } from "../../device/vmm.ts";
import { command } from "../../devices/hisi-acc/qm/driver.ts";
import { arrive, boot, controls, Host } from "./bench.ts";

const { running, stopCopy } = MigState;
const bytes = 1 << 16;
const at = { sqcTable: 0x1000, cqcTable: 0x2000, source: 0x8000, target: 0x9000 };

describe.each(controls)("by messages (%s)", (control) => {
  /** Buffers and tables lie where only messages reach. */
  function start(input: number, output: number, long = false) {
    const machine = boot(new Host(control), [[2, 8]]);
    const messenger = new Messenger(bytes);
    machine.host.vf.attach(messenger);
    machine.host.vmm.mapForMessages(0, bytes);
    messenger.memory.write("sixteen letters!", input);
    machine.driver.command(command.sqcTable, 0, at.sqcTable);
    machine.driver.command(command.cqcTable, 0, at.cqcTable);
    for (let i = 0; i < 2; i++) machine.pairs[0]?.submit(input, output, 16, 0x20, long);
    machine.host.vmm.run();
    return { ...machine, messenger };
  }

  const answering = (host: Host, messenger: Messenger) => () => {
    if (messenger.waiting.length > 0) messenger.answer();
    expect(host.clock.ms).toBeLessThan(10_000);
  };

  /** The guest on another host, whose VMM answers. */
  function follow(source: ReturnType<typeof start>) {
    const host = new Host(control);
    const target = arrive(source, host);
    const messenger = new Messenger(bytes);
    messenger.memory.set(source.messenger.memory);
    host.vf.attach(messenger);
    host.vmm.mapForMessages(0, bytes);
    host.perTurn = answering(host, messenger);
    return { ...target, messenger };
  }

  it.each([
    ["its input", 0],
    ["its output", 1],
  ])("a request that waits for %s is finished or served again", (_what, answers) => {
    const source = start(at.source, at.target);
    for (let i = 0; i < answers; i++) {
      source.messenger.answer();
      source.host.vmm.run();
    }
    source.host.perTurn = answering(source.host, source.messenger);
    const stream = source.host.save();
    const target = follow(source);
    const { host, messenger } = target;
    expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
    expect(host.move(running)).toMatchObject({ result: 0 });
    for (host.vmm.run(); messenger.waiting.length > 0; host.vmm.run()) messenger.answer();
    expect(target.driver.events().length).toBeGreaterThan(0);
    expect(target.pairs[0]?.poll()).toHaveLength(2);
    expect(target.driver.errors()).toEqual([]);
    expect(messenger.memory.subarray(at.target, at.target + 16).toString()).toBe(
      "SIXTEEN\0LETTERS\x01",
    );
    expect([...source.host.engine.served, ...host.engine.served]).toHaveLength(2);
  });

  it("a request that nobody answers is served again where it can be", () => {
    const source = start(at.source, at.target);
    const { result } = source.host.move(stopCopy);
    expect(result === 0, "silicon can only wait").toBe(control === "own");
    expect(source.messenger.waiting.length === 0, "ended").toBe(control === "own");
    source.host.move(running);
    source.host.vmm.run();
    const asked = source.messenger.waiting.map(({ direction }) => direction);
    expect(asked).toContain(Direction.read);
    const { host, messenger } = source;
    for (host.vmm.run(); messenger.waiting.length > 0; host.vmm.run()) messenger.answer();
    source.driver.events();
    expect(source.pairs[0]?.poll()).toHaveLength(2);
  });

  it("output that is being written over its input is written when its time is over", () => {
    if (control === "silicon") return;
    const source = start(at.source, at.source, true);
    const { host, messenger } = source;
    messenger.answer();
    host.vmm.run();
    expect(host.compute.waiting).toHaveLength(1);
    host.perTurn = () => {
      // It comes to its output with the last of its time, and the guest's VMM is slow to take it.
      if (host.clock.ms === finishMs) host.compute.finish();
      const isSlow = host.clock.ms < finishMs + writeBackMs + commitMs / 2;
      if (messenger.waiting.length > 0 && !isSlow) messenger.answer();
    };
    const stream = host.save();
    expect(host.engine.served).toEqual([0x20]);
    const target = follow(source);
    expect(target.host.load(stream)).toMatchObject({ result: 0 });
    expect(target.host.move(running)).toMatchObject({ result: 0 });
    expect(target.driver.errors()).toEqual([]);
    expect(target.pairs[0]?.poll()).toHaveLength(1);
  });

  it("output half written over its input stops the queue, and the guest hears of it", () => {
    if (control === "silicon") return;
    const source = start(at.source, at.source);
    source.messenger.answer();
    source.host.vmm.run();
    expect(source.messenger.waiting.map(({ direction }) => direction)).toEqual([Direction.write]);
    const stream = source.host.save();
    const host = new Host(control);
    const target = arrive(source, host);
    host.load(stream);
    host.move(running);
    host.vmm.run();
    expect(target.driver.errors()).toEqual([{ queue: 2, type: 2 }]);
    source.host.move(running);
    const { messenger } = source;
    for (let i = 0; i < 20; i++) {
      source.host.vmm.run();
      if (messenger.waiting.length > 0) messenger.answer();
    }
    expect(source.pairs[0]?.poll(), "here its output is still known").toHaveLength(2);
  });
});
