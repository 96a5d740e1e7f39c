/** The commands that a server sends to its client: DMA_READ and DMA_WRITE. */
import { errno } from "../base/errno.ts";
import { readU53, writeU53 } from "../base/struct.ts";
import { Direction, pending } from "../memory/transfer.ts";
import { Command, DmaAccess, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { closeFd } from "../sys/descriptors.ts";
import type { Link } from "./link.ts";

/** Bytes in front of the data of a DMA message. */
export const dmaHeadBytes = Header.size + DmaAccess.size;

/** Who holds the memory that a server asks for. */
export interface DmaPort {
  /**
   * Fills `count` bytes of `bytes` from `at` with guest memory, or takes them to it; `direction` is
   * the device's. 0, a negated errno, or `pending`: then the port calls {@link answerDma} later.
   */
  move(
    direction: Direction,
    iova: number,
    bytes: Uint8Array,
    at: number,
    count: number,
    link: Link,
    messageId: number,
  ): number;
}

/** A port without memory: every address is unknown. */
export const noMemory: DmaPort = { move: () => -errno.EFAULT };

function writeHeader(
  link: Link,
  at: number,
  messageId: number,
  command: number,
  size: number,
  status: number,
): void {
  const { view } = link.outgoing;
  const error = status < 0 ? HeaderFlags.mask.error : 0;
  view.setUint16(at + Header.offset.messageId, messageId, true);
  view.setUint16(at + Header.offset.command, command, true);
  view.setUint32(at + Header.offset.messageSize, size, true);
  view.setUint32(at + Header.offset.flags, MessageType.reply | error, true);
  view.setUint32(at + Header.offset.error, -Math.min(status, 0), true);
}

/**
 * Queues the answer to a DMA message whose data, for a read, already lies behind the reserved head.
 */
function queueDma(
  link: Link,
  at: number,
  messageId: number,
  direction: Direction,
  iova: number,
  count: number,
  status: number,
): void {
  const command = direction === Direction.read ? Command.dmaRead : Command.dmaWrite;
  const data = direction === Direction.read ? count : 0;
  const size = status < 0 ? Header.size : dmaHeadBytes + data;
  writeHeader(link, at, messageId, command, size, status);
  if (status >= 0) {
    writeU53(link.outgoing.view, at + Header.size + DmaAccess.offset.address, iova);
    writeU53(link.outgoing.view, at + Header.size + DmaAccess.offset.count, count);
  }
  link.queue(size);
}

/** Answers a DMA message that a port had kept; the caller has asked `link.roomy`. */
export function answerDma(
  link: Link,
  messageId: number,
  direction: Direction,
  iova: number,
  bytes: Uint8Array,
  count: number,
  status: number,
): void {
  const at = link.reserve(dmaHeadBytes + count);
  if (direction === Direction.read && status >= 0) {
    link.outgoing.bytes.set(bytes.subarray(0, count), at + dmaHeadBytes);
  }
  queueDma(link, at, messageId, direction, iova, count, status);
}

/** Why the DMA message at the framer's place is refused, or 0. */
function refusal(link: Link, command: number, dataBytesMax: number): number {
  const { at, size } = link.framer;
  if (size < dmaHeadBytes) return -errno.EINVAL;
  const count = readU53(link.incoming.view, at + Header.size + DmaAccess.offset.count);
  if (count > dataBytesMax) return -errno.E2BIG;
  const data = command === Command.dmaWrite ? count : 0;
  return size === dmaHeadBytes + data ? 0 : -errno.EINVAL;
}

/**
 * Does what the command at the framer's place asks for and queues the answer; the caller has asked
 * `link.roomy`. Nothing that a server sends here is more than an errno to it: unknown commands are
 * ENOSYS, descriptors are closed and EINVAL, more than `dataBytesMax` is E2BIG.
 */
export function serveCommand(link: Link, port: DmaPort, dataBytesMax: number): void {
  const { view, bytes } = link.incoming;
  const at = link.framer.at;
  const messageId = view.getUint16(at + Header.offset.messageId, true);
  const command = view.getUint16(at + Header.offset.command, true);
  const flags = view.getUint32(at + Header.offset.flags, true);
  const fds = link.framer.takeFds();
  for (const fd of fds) closeFd(fd);
  const direction = command === Command.dmaRead ? Direction.read : Direction.write;
  const known = command === Command.dmaRead || command === Command.dmaWrite;
  let status = known ? refusal(link, command, dataBytesMax) : -errno.ENOSYS;
  if ((flags & HeaderFlags.mask.type) !== MessageType.command || fds.length > 0) {
    status = -errno.EINVAL;
  }
  const replies = (flags & HeaderFlags.mask.noReply) === 0;
  if (status < 0) {
    if (!replies) return;
    const target = link.reserve(Header.size);
    writeHeader(link, target, messageId, command, Header.size, status);
    link.queue(Header.size);
    return;
  }
  const iova = readU53(view, at + Header.size + DmaAccess.offset.address);
  const count = readU53(view, at + Header.size + DmaAccess.offset.count);
  const target = link.reserve(dmaHeadBytes + count);
  status =
    direction === Direction.read
      ? port.move(
          direction,
          iova,
          link.outgoing.bytes,
          target + dmaHeadBytes,
          count,
          link,
          messageId,
        )
      : port.move(direction, iova, bytes, at + dmaHeadBytes, count, link, messageId);
  if (status !== pending && replies) {
    queueDma(link, target, messageId, direction, iova, count, status);
  }
}
