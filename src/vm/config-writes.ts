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

/** What a VMM that starts anew has in a register, where that is known: it need not be written. */
type AtStart = 0 | null;
type Place = readonly [capability: string, register: string, atStart: AtStart];

/**
 * What is written, in an order in which nothing is enabled before it is complete: the addresses of
 * memory before COMMAND, and all of MSI before its control.
 */
const order: readonly Place[] = [
  ...[0, 1, 2, 3, 4, 5].map((bar): Place => ["", `BAR${bar}`, 0]),
  ["", "EXPANSION_ROM", 0],
  ["", "CACHE_LINE_SIZE", 0],
  ["", "INTERRUPT_LINE", 0],
  ["powerManagement", "PMCSR", 0],
  ["pciExpress", "DEVICE_CONTROL", null],
  ["", "COMMAND", null],
  ["msi", "MESSAGE_ADDRESS", 0],
  ["msi", "MESSAGE_ADDRESS_HIGH", 0],
  ["msi", "MESSAGE_DATA", 0],
  ["msi", "MASK", 0],
  ["msi", "MESSAGE_CONTROL", null],
];

/** What is written when MSI-X's table is complete. */
const last: readonly Place[] = [["msix", "MESSAGE_CONTROL", null]];

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
  const write = ([capability, name, atStart]: Place): Write[] => {
    const register = registerOf(config, capability, name);
    if (register === undefined) return [];
    const { at, size, value } = register;
    return value === atStart ? [] : [{ at: base + at, size, value }];
  };
  return [...order.flatMap(write), ...table, ...last.flatMap(write)];
}
