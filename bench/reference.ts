import type { Column } from "./figures.ts";

/** What was seen of a figure when both C servers ran in turns on one machine. */
export interface Recorded {
  /** The yardstick's median, in the figure's unit. */
  readonly yardstick: number;
  /** The C library's figure divided by the yardstick's: the median of the pairs' quotients. */
  readonly factor: number;
}

/**
 * The C library (libvfio-user at efd091b, release build, blocking, the bench device on top)
 * against the yardstick: 21 pairs on a 2-core virtual machine, AMD EPYC, Linux 6.18.
 *
 * Absolute figures of one machine say nothing on another: a context switch that costs 2 us on one
 * costs 6 us on the next, while a copy of 1 MiB takes the same time. What carries over is the
 * quotient of two servers that make the same system calls for the same request, so that is what
 * is recorded, figure by figure; no single number describes how fast a machine is.
 */
export const reference: Readonly<Record<string, Readonly<Record<Column, Recorded>>>> = {
  read4: { one: { yardstick: 12.02, factor: 1.008 }, two: { yardstick: 51.12, factor: 0.987 } },
  write4: { one: { yardstick: 11.9, factor: 1.017 }, two: { yardstick: 47.47, factor: 1.0 } },
  readpipe: { one: { yardstick: 205.4, factor: 0.907 }, two: { yardstick: 324.8, factor: 0.894 } },
  readpipeCpu: { one: { yardstick: 2444, factor: 1.135 }, two: { yardstick: 2691, factor: 1.123 } },
  posted4: { one: { yardstick: 442.0, factor: 0.94 }, two: { yardstick: 652.0, factor: 0.91 } },
  posted4Cpu: { one: { yardstick: 1345, factor: 1.115 }, two: { yardstick: 1440, factor: 1.128 } },
  migread1m: { one: { yardstick: 6.045, factor: 0.92 }, two: { yardstick: 2.812, factor: 0.952 } },
  migwrite32k: {
    one: { yardstick: 2.418, factor: 0.976 },
    two: { yardstick: 0.6063, factor: 1.051 },
  },
  irq: { one: { yardstick: 7.58, factor: 1.021 }, two: { yardstick: 52.32, factor: 1.023 } },
  dmamap: { one: { yardstick: 15.88, factor: 1.091 }, two: { yardstick: 37.41, factor: 0.97 } },
};

/** The C library's figure on this machine, from what the yardstick takes here and now. */
export function estimateLibrary(
  key: string,
  column: Column,
  yardstick: number | undefined,
): number | undefined {
  const recorded = reference[key]?.[column];
  if (recorded === undefined || yardstick === undefined) return undefined;
  return yardstick * recorded.factor;
}
