import type { QmDriverOptions } from "./qm-driver.ts";

/** What every accelerator's driver may be told. */
export interface EngineDriverOptions extends QmDriverOptions {
  /** Requests under way at once in one queue. */
  readonly depth?: number;
  /** Queues that requests are spread over, where an engine's driver can. */
  readonly queues?: number;
  /** The longest data of one request, in bytes. */
  readonly dataBytesMax?: number;
}

/** What holds when a driver is not told. */
export const engineDefaults = { depth: 16, queues: 1, dataBytesMax: 65_536 } as const;
