/** What of configuration space a VMM that starts anew is told. */
import { expect, it } from "vitest";
import { type Config, configWrites } from "../../src/vm/config-writes.ts";

const register = (name: string, at: number, value: number, size: 2 | 4 = 4) => ({
  ...{ name, at, size, value },
});

it("writes no base address that is nowhere, as after a reset, but every other 0", () => {
  const config: Config = {
    header: [
      register("COMMAND", 4, 0, 2),
      ...[0xfe00_000c, 0, 0, 0xfe10_0000].map((value, n) => {
        return register(`BAR${n}`, 0x10 + 4 * n, value);
      }),
      register("EXPANSION_ROM", 0x30, 0),
    ],
    capabilities: [{ name: "msi", registers: [register("MESSAGE_CONTROL", 0x86, 0, 2)] }],
  };
  const table = [{ at: 0xfe10_2000, size: 4, value: 0 }] as const;
  expect(configWrites(config, 0x1000, table).map(({ at }) => at)).toEqual([
    ...[0x1010, 0x101c, 0x1004, 0x1086, 0xfe10_2000],
  ]);
});
