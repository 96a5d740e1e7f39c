import { describe, expect, it } from "vitest";
import { configAddress, ecamBase, findFunction, placeText } from "../../src/vm/pci-place.ts";

const device = (bus: number, id: string, more: object = {}) => ({
  ...{ bus, slot: 3, function: 1, qdev_id: id, id: { vendor: 0x19e5, device: 0xa256 } },
  regions: [{ bar: 2, size: 65_536, address: -1, type: "memory" }],
  ...more,
});
const bridge = (devices: unknown) => device(0, "port", { pci_bridge: { bus: {}, devices } });

describe("the place of a function", () => {
  it("is found behind bridges, by its id", () => {
    const answer = [{ bus: 0, devices: [device(0, ""), bridge([bridge([device(2, "acc")])])] }];
    const found = findFunction(answer, "acc");
    expect(found).toMatchObject({ bus: 2, slot: 3, fn: 1, vendor: 0x19e5, device: 0xa256 });
    expect(found?.bars).toEqual([{ bar: 2, address: -1 }]);
    expect(found && placeText(found)).toBe("02:03.1");
    expect(findFunction(answer, "other")).toBeUndefined();
  });

  it.each([
    ["no list", {}],
    ["a bus that is none", [5, null]],
    ["a number out of range", [{ devices: [device(256, "acc")] }]],
    ["an address that is none", [{ devices: [device(1, "acc", { regions: [{ bar: 0 }] })] }]],
  ])("is nowhere in %s", (_, answer) => {
    expect(findFunction(answer, "acc")).toBeUndefined();
  });

  it("is not looked for behind bridges without end", () => {
    const loop: unknown[] = [];
    loop.push(bridge(loop));
    expect(findFunction([{ devices: loop }], "acc")).toBeUndefined();
  });

  it("is looked for among a thousand devices of a bus", () => {
    const many = (count: number) => [
      { devices: [...Array(count - 1).fill(device(0, "other")), device(0, "acc")] },
    ];
    expect(findFunction(many(1024), "acc")).toBeDefined();
    expect(findFunction(many(1025), "acc")).toBeUndefined();
  });

  it("has its registers where the machine shows configuration space", () => {
    const tree = [
      "FlatView #1",
      " Root memory region: system",
      "  0000000040000000-000000007fffffff (prio 0, ram): ram",
      "  0000004010000000-000000401fffffff (prio 0, container): pcie-mmcfg-mmio",
    ].join("\n");
    expect(ecamBase(tree)).toBe(0x40_1000_0000);
    expect(ecamBase("pcie-mmcfg-mmio")).toBeUndefined();
    const place = { bus: 2, slot: 3, fn: 1, vendor: 1, device: 1, bars: [] };
    expect(configAddress(0xb000_0000, place, 4)).toBe(0xb021_9004);
  });
});
