import type { VfioDevice } from "../device/vfio-device.ts";
import type { Limits } from "../wire/negotiate.ts";
import type { IrqMessages } from "./irq-messages.ts";
import type { Lane } from "./lane.ts";
import type { Outbox } from "./outbox.ts";

/**
 * One command being served. A single object per session, filled anew for each message: the payload
 * lies in `bytes[at, at + length)`, the reply's payload is written to `reply.bytes` from `replyAt`.
 */
export class Request {
  bytes: Uint8Array;
  view: DataView;
  /** Where the payload starts. */
  at = 0;
  /** Bytes of payload. */
  length = 0;
  /** The descriptors that came along. Whoever takes them sets this to none; the rest is closed. */
  fds: readonly number[] = [];
  device: VfioDevice;
  /** Where the reply goes. */
  outbox: Outbox;
  /** Where the reply's payload starts in the outbox. */
  replyAt = 0;
  /** What the client can take. */
  peer: Limits;
  /** How a client that no eventfd reaches hears of interrupts. */
  readonly irqs: IrqMessages;
  /** Descriptors to send with the reply. */
  replyFds: readonly number[] | null = null;
  /** Close them after they were sent. */
  replyFdsOwned = false;
  /** Memory to send behind the reply's payload. */
  lentAddress = 0;
  lentBytes = 0;

  constructor(device: VfioDevice, { outbox, bytes, view }: Lane, irqs: IrqMessages, peer: Limits) {
    this.device = device;
    this.outbox = outbox;
    this.bytes = bytes;
    this.view = view;
    this.irqs = irqs;
    this.peer = peer;
  }

  /** A 32-bit field of the payload. */
  u32(offset: number): number {
    return this.view.getUint32(this.at + offset, true);
  }

  /** Copies `count` bytes of the payload from `offset` to the same place of the reply. */
  echo(offset: number, count: number): void {
    const from = this.at + offset;
    const to = this.replyAt + offset;
    for (let i = 0; i < count; i++) this.outbox.bytes[to + i] = this.bytes[from + i] as number;
  }
}

/**
 * Serves one command: the number of payload bytes written to the reply, or a negated errno, which
 * becomes a reply of a header alone.
 */
export type Handler = (request: Request) => number;

/** A command's handler with the shortest payload that it accepts. */
export interface Route {
  readonly minimum: number;
  readonly handle: Handler;
}
