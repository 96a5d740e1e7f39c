/**
 * Configuration space as a VMM has to write it again: what a guest has set is in the server's copy,
 * which every write of the guest reached, and a VMM that starts anew knows nothing of it.
 */
import * as s from "../migration/hosts/shapes.ts";
import type { Write } from "./gdb-stub.ts";

const width: s.Reader<1 | 2 | 4> = (value) =>
  value === 1 || value === 2 || value === 4 ? value : undefined;

const registersShape = s.list(
  s.object({ name: s.text(64), at: s.whole(4095), size: width, value: s.whole(0xffff_ffff) }),
  256,
);

/** Of a server's description of its configuration space: what is read of it. */
export const configShape = s.object({
  header: registersShape,
  capabilities: s.list(s.object({ name: s.text(64), registers: registersShape }), 96),
});
export type Config = s.Read<typeof configShape>;

/** What is 0 after a reset, and where nothing is as long as it is. */
const addresses: readonly string[] = [
  ...[0, 1, 2, 3, 4, 5].map((bar) => `BAR${bar}`),
  "EXPANSION_ROM",
];

/**
 * What is written, in an order in which nothing is enabled before it is complete: the addresses of
 * memory before COMMAND, and all of MSI before its control.
 */
const order: ReadonlyArray<readonly [capability: string, register: string]> = [
  ...addresses.map((name) => ["", name] as const),
  ["", "CACHE_LINE_SIZE"],
  ["", "INTERRUPT_LINE"],
  ["powerManagement", "PMCSR"],
  ["pciExpress", "DEVICE_CONTROL"],
  ["", "COMMAND"],
  ["msi", "MESSAGE_ADDRESS"],
  ["msi", "MESSAGE_ADDRESS_HIGH"],
  ["msi", "MESSAGE_DATA"],
  ["msi", "MASK"],
  ["msi", "MESSAGE_CONTROL"],
];

/** What is written when MSI-X's table is complete. */
const last = [["msix", "MESSAGE_CONTROL"]] as const;

/** A register's value by the names of its capability, empty for the header's, and its own. */
export function registerOf(config: Config, capability: string, register: string) {
  const { header, capabilities } = config;
  const chain = capabilities.find(({ name }) => name === capability)?.registers;
  const registers = capability === "" ? header : (chain ?? []);
  return registers.find(({ name }) => name === register);
}

/**
 * The writes that give a function, at `base` in memory, what `config` says of it; among them
 * `table`, the writes to MSI-X's table, when the function answers to memory.
 */
export function configWrites(config: Config, base: number, table: readonly Write[]): Write[] {
  const write = ([capability, name]: readonly [string, string]): Write[] => {
    const register = registerOf(config, capability, name);
    if (register === undefined) return [];
    const { at, size, value } = register;
    const isNowhere = value === 0 && addresses.includes(name);
    return isNowhere ? [] : [{ at: base + at, size, value }];
  };
  return [...order.flatMap(write), ...table, ...last.flatMap(write)];
}
