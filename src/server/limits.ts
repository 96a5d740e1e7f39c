/** Every bound of the server by name. Bytes, counts and milliseconds. */
import { Header, RegionAccess } from "../spec/vfio-user.ts";
import type { Limits } from "../wire/negotiate.ts";

/** The most data that one message carries. */
export const dataXferBytesMax = 1_048_576;

/** The longest message: a region write or DMA reply with all the data it may carry. */
export const messageBytesMax = Header.size + RegionAccess.size + dataXferBytesMax;

/** QEMU refuses more than 16 descriptors a message. */
export const msgFdsMax = 16;

/** What is offered in VERSION. */
export const offered: Limits = {
  maxMsgFds: msgFdsMax,
  maxDataXferSize: dataXferBytesMax,
  maxDmaMaps: 65_535,
  pgsizes: 4096,
  writeMultiple: true,
  twinSocket: true,
  precopyInfo: true,
  irqMessages: true,
};

/** Space behind a message in progress, so that a batch of small requests takes one receive. */
export const receiveSlackBytes = 262_144;

/**
 * Replies are gathered up to this size before they are sent. A message's header must not be split
 * over two buffers of the kernel, because QEMU takes a short header for a broken stream; the kernel
 * fills its first buffer with more than this.
 */
export const replyBatchBytes = 32_768;

/** Loans from this size on are sent without a copy. */
export const loanBytesMin = 65_536;

/** Requests served between two looks at the control word and the outbox. */
export const batchRequestsMax = 64;

/**
 * Requests that a fence serves at most: more than the receive buffer, what the kernel has behind it
 * and the hold queue together can have. A client that sends on and on is not waited for.
 */
export const fenceRequestsMax = 131_072;

/** Descriptors of a device that are polled on its behalf. */
export const watchesMax = 1024;

/**
 * Region accesses set aside while the device is frozen in hold mode; a fuller queue stops reading.
 */
export const holdBytesMax = 1_048_576;

/** Message transfers that a device may have pending at once. */
export const transfersMax = 64;

/** DMA commands that wait for their answer at once. */
export const dmaInFlightMax = 16;

/** How long a VMM may take to answer a DMA command; then the transfer fails with ETIMEDOUT. */
export const dmaReplyTimeoutMs = 5000;
