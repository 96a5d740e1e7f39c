import type { Row } from "./client.ts";

/** Where the two processes run: on the same CPU, or on a CPU each. */
export const columns = ["one", "two"] as const;
export type Column = (typeof columns)[number];

/** Who else is asked to do it: any peer, any but the yardstick (it has no DMA engine), nobody. */
export type Peers = "any" | "devices" | "none";

/** One run of vubench, short enough that the two sides can take turns. */
export interface Operation {
  /** The name of the operation in vubench. */
  readonly name: string;
  /** The row of its answer that is meant. */
  readonly row: string;
  /** Repetitions, and how many fewer when every request costs the wake-up of an idle CPU. */
  readonly count: number;
  readonly wakeupDivisor: number;
  readonly args: readonly string[];
  readonly peers: Peers;
}

/**
 * What is promised of a figure.
 *
 * - `speed`: ours is at least so many times as fast as the peer
 * - `cost`: ours is at most so many times as expensive as the peer
 * - `atLeast`, `atMost`: bounds in the figure's own unit, whatever the peer does
 */
export type Promised =
  | { readonly kind: "speed" | "cost"; readonly ratio: number }
  | { readonly kind: "atLeast" | "atMost"; readonly value: number };

/** One line of the table. Promises are judged with both processes on one CPU. */
export interface Figure {
  readonly key: string;
  readonly title: string;
  readonly operation: OperationKey;
  readonly unit: "us" | "ns" | "k/s" | "GB/s";
  readonly better: "lower" | "higher";
  /** Undefined when the row lacks it. */
  readonly value: (row: Row) => number | undefined;
  readonly promised: Promised;
}

const once = { wakeupDivisor: 4, args: [], peers: "any" } as const;
const streamed = { wakeupDivisor: 1, args: [], peers: "any" } as const;

/** A migration pass is a whole state; the operation's count is the number of passes. */
const chunk = (bytes: number) => ({ count: 4, wakeupDivisor: 1, args: ["--chunk", `${bytes}`] });

export const operations = {
  read4: { name: "read4", row: "read4", count: 20_000, ...once },
  write4: { name: "write4", row: "write4", count: 20_000, ...once },
  readpipe: { name: "readpipe", row: "readpipe", count: 60_000, ...streamed },
  posted4: { name: "posted4", row: "posted4", count: 120_000, ...streamed },
  migread1m: { name: "migread", row: "migread", ...chunk(1 << 20), peers: "any" },
  migwrite32k: { name: "migwrite", row: "migwrite", ...chunk(32 << 10), peers: "any" },
  // The C library reads a body with one recv: a body of 1 MiB dead-locks it.
  migwrite1m: { name: "migwrite", row: "migwrite", ...chunk(1 << 20), peers: "none" },
  irq: { name: "irq", row: "irq", count: 20_000, ...once },
  dmamap: { name: "dmamap", row: "dmamap_fd", count: 5_000, ...once },
  dmafd: { name: "dmafd", row: "dmafd_4k_rd", count: 200_000, ...streamed, peers: "devices" },
} as const satisfies Record<string, Operation>;

export type OperationKey = keyof typeof operations;

const latencyUs = (row: Row): number | undefined => row.p50_us || undefined;
const kiloRate = (row: Row): number | undefined => row.ops_s / 1e3 || undefined;
const gigabytes = (row: Row): number | undefined => (row.mib_s * 1_048_576) / 1e9 || undefined;
const serverNs = (row: Row): number | undefined => row.server_cpu_ns ?? undefined;
const deviceUs = (row: Row): number | undefined =>
  row.device_ns === null ? undefined : row.device_ns / 1e3;

const latency = { unit: "us", better: "lower", value: latencyUs } as const;
const rate = { unit: "k/s", better: "higher", value: kiloRate } as const;
const cpu = { unit: "ns", better: "lower", value: serverNs } as const;
const bandwidth = { unit: "GB/s", better: "higher", value: gigabytes } as const;
const device = { unit: "us", better: "lower", value: deviceUs } as const;

const speed = (ratio: number) => ({ promised: { kind: "speed", ratio } as const });
const cost = (ratio: number) => ({ promised: { kind: "cost", ratio } as const });
const atLeast = (value: number) => ({ promised: { kind: "atLeast", value } as const });
const atMost = (value: number) => ({ promised: { kind: "atMost", value } as const });

/** The promises of the project, a line each. */
export const figures: readonly Figure[] = [
  { key: "read4", title: "read 4 B", operation: "read4", ...latency, ...speed(1) },
  { key: "write4", title: "write 4 B", operation: "write4", ...latency, ...speed(1) },
  { key: "readpipe", title: "read, 32 in flight", operation: "readpipe", ...rate, ...speed(1) },
  { key: "readpipeCpu", title: "  server CPU each", operation: "readpipe", ...cpu, ...cost(0.8) },
  { key: "posted4", title: "posted write", operation: "posted4", ...rate, ...speed(1.15) },
  { key: "posted4Cpu", title: "  server CPU each", operation: "posted4", ...cpu, ...cost(0.8) },
  {
    key: "migread1m",
    title: "MIG_DATA_READ 1 MiB",
    operation: "migread1m",
    ...bandwidth,
    ...speed(1.3),
  },
  {
    key: "migwrite32k",
    title: "MIG_DATA_WRITE 32 KiB",
    operation: "migwrite32k",
    ...bandwidth,
    ...speed(1),
  },
  {
    key: "migwrite1m",
    title: "MIG_DATA_WRITE 1 MiB",
    operation: "migwrite1m",
    ...bandwidth,
    ...atLeast(3),
  },
  { key: "irq", title: "doorbell to MSI-X", operation: "irq", ...latency, ...speed(0.9) },
  { key: "dmamap", title: "DMA_MAP", operation: "dmamap", ...latency, ...speed(0.7) },
  { key: "dmafd", title: "mapped DMA 4 KiB", operation: "dmafd", ...device, ...atMost(0.1) },
];

/** How many times as fast ours is as the peer; above 1 is better whatever the unit. */
export function speedRatio(figure: Figure, ours: number, peer: number): number {
  return figure.better === "lower" ? peer / ours : ours / peer;
}
