/** An accelerator's VF moves from one host to another under a guest that uses it. */
import { describe, expect, it } from "vitest";
import { MigState } from "../../../src/spec/vfio.ts";
import { arrive, boot, type Control, controls, Host, type Machine } from "./bench.ts";

const { running } = MigState;
const routes = controls.flatMap((from) => controls.map((to) => [from, to] as const));

/** Serves what is there and takes it, as a guest that is interrupted. */
function serve({ host, driver, pairs }: Machine): number {
  host.vmm.run();
  driver.events();
  return pairs.reduce((sum, pair) => sum + pair.poll().length, 0);
}

/** Moves the guest; returns it at its new place. */
function migrate(source: Machine, to: Control): Machine {
  const host = new Host(to);
  const stream = source.host.save();
  const target = arrive(source, host);
  expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
  expect(host.move(running)).toMatchObject({ result: 0 });
  return target;
}

describe.each(routes)("from %s to %s", (from, to) => {
  it("goes on after rings have wrapped, at each of their slots", () => {
    for (let done = 0; done < 12; done++) {
      let machine = boot(new Host(from));
      for (let i = 0; i < done; i++) {
        for (const pair of machine.pairs) pair.submit(0, 0, 0, 1);
        expect(serve(machine)).toBe(2);
      }
      machine = migrate(machine, to);
      for (let i = 0; i < 12; i++) {
        for (const pair of machine.pairs) pair.submit(0, 0, 0, 2);
        expect(serve(machine), `${done} before, ${i} after`).toBe(2);
      }
      expect(machine.driver.errors()).toEqual([]);
    }
  });

  it("takes along what is queued, and serves each of it once", () => {
    const source = boot(new Host(from), [
      [0, 8],
      [15, 16],
    ]);
    const buffer = source.driver.allocate(4096);
    source.guest.write(buffer, Buffer.alloc(16, 0x20));
    // The first one of each queue is under way when the function is to stand still.
    for (const [index, pair] of source.pairs.entries()) {
      for (let i = 0; i < pair.depth - 1; i++) {
        pair.submit(buffer, buffer + 16 * (1 + i + 8 * index), 16, 0x40 + i, i === 0);
      }
    }
    source.host.vmm.run();
    expect(source.host.compute.waiting).toHaveLength(2);
    source.host.perTurn = () => {
      if (source.host.clock.ms > 20 && source.host.compute.waiting.length > 0) {
        source.host.compute.finish();
      }
    };
    const target = migrate(source, to);
    expect(source.host.engine.served).toEqual([0x40, 0x40]);
    target.host.vmm.run();
    expect(target.host.engine.served).toHaveLength(6 + 14);
    target.driver.events();
    expect(target.pairs.map((pair) => pair.poll().length)).toEqual([7, 15]);
    expect(target.guest.read(buffer + 16 * 15, 1)[0]).toBe(0x20 ^ 0x46);
    expect(target.driver.errors()).toEqual([]);
  });
});
