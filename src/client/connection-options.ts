import { defaultLimits, type Limits } from "../wire/negotiate.ts";

/**
 * What a message may have besides the data that was negotiated: its heads, and a capability text.
 */
export const messageHeadBytesMax = 32_768;
/** More data than this in one message is not offered, whatever is asked for. */
export const dataXferBytesMax = 16 * 1024 * 1024;

/** How a connection is made. */
export interface ConnectionOptions {
  /** How long to wait for a reply, in milliseconds; 0 or nothing means for ever. */
  readonly timeoutMs?: number;
  /** Offers the server a socket of its own for its commands. */
  readonly twinSocket?: boolean;
  /** Asks the server for `RemoteDevice.precopyInfo`, which is no part of the document. */
  readonly precopyInfo?: boolean;
  /**
   * The server is on another host: no descriptor crosses, interrupts come as messages, it must take
   * as much data as we do, and one answer that does not come in time ends the connection.
   */
  readonly remote?: boolean;
  /** The minor version to propose. */
  readonly minor?: number;
  /** What this side can take, where it differs from {@link clientLimits}. */
  readonly limits?: Partial<Limits>;
}

/** What this side can take unless it is told otherwise. */
export const clientLimits: Limits = {
  ...defaultLimits,
  maxMsgFds: 16,
  writeMultiple: true,
};
