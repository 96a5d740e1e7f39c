import { readSync, writeSync } from "node:fs";
import { errno } from "../base/errno.ts";
import type { RawMessage } from "../client/raw-client.ts";
import { dmaAccess, dmaMap, message, type RawRequest } from "../client/raw-requests.ts";
import { Command, DmaAccess, DmaMapFlags, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { F_SEAL_GROW, F_SEAL_SHRINK } from "../sys/constants.ts";
import { addSeals, closeFd, createMemfd } from "../sys/descriptors.ts";
import { expectEqual, expectThat } from "./expect.ts";

/** A DMA command that the server sent. */
export interface DmaCommand {
  readonly command: number;
  readonly messageId: number;
  readonly address: number;
  readonly count: number;
}

const readWrite = DmaMapFlags.mask.read | DmaMapFlags.mask.write;

/**
 * Memory of a guest: an anonymous file, sealed against shrinking as VMMs do it, that a server is
 * given to map, or that it reaches by DMA_READ and DMA_WRITE.
 */
export class Guest {
  readonly iova: number;
  readonly size: number;
  /** The file; `offset` of a mapping counts from its start. */
  readonly fd: number;
  /** The DMA commands that were answered, oldest first. */
  readonly commands: DmaCommand[] = [];

  constructor(iova: number, size: number) {
    this.iova = iova;
    this.size = size;
    this.fd = createMemfd("guest", size);
    addSeals(this.fd, F_SEAL_SHRINK | F_SEAL_GROW);
  }

  /** A DMA_MAP of a part; the descriptor is to be sent along unless messages are wanted. */
  map(at = 0, size = this.size, flags: number = readWrite): RawRequest {
    return dmaMap({ address: this.iova + at, size, offset: at, flags });
  }

  /** Bytes of the memory. */
  read(at: number, count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    readSync(this.fd, bytes, 0, count, at);
    return bytes;
  }

  write(at: number, bytes: Uint8Array): void {
    writeSync(this.fd, bytes, 0, bytes.length, at);
  }

  fill(at: number, count: number, value: number): void {
    this.write(at, new Uint8Array(count).fill(value));
  }

  /** Fills with bytes that tell places apart. */
  pattern(at: number, count: number): Uint8Array {
    const bytes = Uint8Array.from({ length: count }, (_, i) => (i * 7 + (i >>> 8) * 31 + 3) & 0xff);
    this.write(at, bytes);
    return bytes;
  }

  /** Checks a command of the server as the document has it, and makes the reply. */
  answer(request: RawMessage): Uint8Array {
    const { address, count } = parseDma(request);
    this.commands.push({ command: request.command, messageId: request.messageId, address, count });
    const at = address - this.iova;
    if (at < 0 || at + count > this.size) return refusal(request, errno.EFAULT);
    if (request.command === Command.dmaRead) {
      return acknowledgement(request, address, count, this.read(at, count));
    }
    this.write(at, request.payload.subarray(DmaAccess.size));
    return acknowledgement(request, address, count);
  }

  close(): void {
    closeFd(this.fd);
  }
}

/** The address and count of a DMA command, whose form is checked. */
export function parseDma(request: RawMessage): { address: number; count: number } {
  const { command, payload, flags } = request;
  const known = command === Command.dmaRead || command === Command.dmaWrite;
  expectThat(known, "DMA_READ or DMA_WRITE from the server", `command ${command}`);
  expectEqual("type of the server's command", flags & HeaderFlags.mask.type, MessageType.command);
  expectThat(payload.length >= DmaAccess.size, "an address and a count", payload.length);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const { address, count } = DmaAccess.get(view, 0);
  const data = command === Command.dmaWrite ? count : 0;
  expectEqual("payload bytes of the server's command", payload.length, DmaAccess.size + data);
  expectEqual("descriptors with the server's command", request.fds.length, 0);
  return { address, count };
}

/** The reply that a command of the server asks for. */
export const acknowledgement = (
  { command, messageId }: Pick<RawMessage, "command" | "messageId">,
  address: number,
  count: number,
  data?: Uint8Array,
): Uint8Array =>
  message(dmaAccess(command, address, count, data), { messageId, flags: MessageType.reply });

/** An error reply to a command of the server. */
export const refusal = (
  { command, messageId }: Pick<RawMessage, "command" | "messageId">,
  error: number,
): Uint8Array =>
  message(
    { command, payload: new Uint8Array(0) },
    { messageId, flags: MessageType.reply | HeaderFlags.mask.error, error },
  );
