/** What is in the way of a VM is found before anything is done. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

describe("a check finds, before anything is done, that", () => {
  const cases: ReadonlyArray<readonly [string, (world: VmWorld) => void, RegExp]> = [
    ["the VM does not run", (w) => (w.state.source = "paused"), /is paused, not running/],
    ["the target does not wait", (w) => (w.state.target = "running"), /start it with -incoming/],
    [
      "a VM has no such device",
      (w) => (w.devices.source = []),
      /all vfio-user devices .* the only one would, .* has none/,
    ],
    [
      "a VM has two",
      (w) => (w.devices.source = ["a", "b"]),
      /all vfio-user devices .* has a, b; name each/,
    ],
    ["the target has another", (w) => (w.devices.target = ["b"]), /acc would, .* has b/],
    [
      "the device is elsewhere on the target",
      (w) => w.ports.target.push(3),
      /acc is at pcie\.0\/01\.0\/00\.0 in .*source.qmp, and at pcie\.0\/03\.0\/00\.0 in .*target/,
    ],
    [
      "the device is behind bridges without end",
      (w) => (w.endless = true),
      /acc of .*source\.qmp is behind bridges without end/,
    ],
    [
      "memory goes by other channels there",
      (w) => Object.assign(w.channels, { source: 4, target: 2 }),
      /multifd of 4 channels, none at the source, multifd of 2 channels, none at the target/,
    ],
    [
      "only one has channels",
      (w) => (w.channels.target = 2),
      /the way of memory is one stream at the source, multifd of 2/,
    ],
    [
      "memory cannot be sent without a copy",
      (w) => w.capabilities.push({ capability: "zero-copy-send", state: true }),
      /zero-copy-send of .* needs --memory tcp:/,
    ],
    [
      "memory is not shared",
      (w) => (w.backends = [{ id: "ram", share: false }]),
      /not shared: ram/,
    ],
    [
      "QEMU is too old",
      (w) => (w.version = { major: 10, minor: 0, micro: 2 }),
      /need 10.1 or newer/,
    ],
    [
      "QEMU has something against it",
      (w) => (w.blocked = { "blocked-reasons": ["there is an ivshmem."] }),
      /cannot move: there is an ivshmem/,
    ],
    ["a server serves another VM", (w) => (w.first.serves.source = false), /does not serve the VM/],
  ];
  it.each(cases)("%s", async (_, arrange, sentence) => {
    arrange(world);
    const { outcome, sentence: said } = await world.move();
    expect(said).toMatch(sentence);
    expect(outcome).toBe("kept");
    expect(world.log).toEqual([]);
  });
});
