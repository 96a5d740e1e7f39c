/**
 * What a trace tells, as one JSON object a line. The first line of a file is {@link TraceHead};
 * every other one is a {@link MessageRecord} or an {@link EventRecord}.
 */
import { FerryError } from "../../base/errors.ts";
import { describeMessage, Way } from "../../wire/describe.ts";

/** The first line of a recorded trace. */
export interface TraceHead {
  readonly format: "vfio-ferry-trace";
  readonly version: 1;
  /** When the trace began, ISO 8601. */
  readonly started: string;
}

interface Stamp {
  /** Microseconds since the trace began. */
  readonly t: number;
  /** The number of the connection, from 1. */
  readonly session: number;
}

/** A message that went by. */
export interface MessageRecord extends Stamp {
  readonly socket: "main" | "twin";
  readonly to: "server" | "client";
  /** Bytes of the message that went by. */
  readonly size: number;
  readonly fds: number;
  /** The front of the message, base64. */
  readonly head: string;
}

/** Something else that happened. */
export interface EventRecord extends Stamp {
  readonly event: string;
}

export type TraceRecord = MessageRecord | EventRecord;

/** Bytes of a message that a record keeps. */
export const headBytesMax = 4096;
/** The longest line of a record file; a longer one is not one. */
export const lineBytesMax = 16_384;

/** Every file's first line. */
export const traceHead = (started: Date): TraceHead => ({
  format: "vfio-ferry-trace",
  version: 1,
  started: started.toISOString(),
});

/** A record as a person reads it. */
export function renderRecord(record: TraceRecord): string {
  const seconds = (record.t / 1e6).toFixed(6).padStart(11);
  if ("event" in record) return `${seconds} ${record.session} ${record.event}`;
  const way = record.to === "server" ? Way.toServer : Way.toClient;
  const head = new Uint8Array(Buffer.from(record.head, "base64"));
  const twin = record.socket === "twin" ? " twin" : "";
  const cut = record.size < declaredSize(head) ? ` (ended after ${record.size} bytes)` : "";
  return `${seconds} ${record.session}${twin} ${describeMessage(way, head, record.fds)}${cut}`;
}

/** What a message says its size is; 0 when it does not get to say it. */
function declaredSize(head: Uint8Array): number {
  return head.length < 8 ? 0 : new DataView(head.buffer).getUint32(4, true);
}

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0;

function isRecord(value: unknown): value is TraceRecord {
  const record = value as Partial<MessageRecord & EventRecord> | null;
  if (typeof record !== "object" || record === null) return false;
  if (!isCount(record.t) || !isCount(record.session)) return false;
  if (record.event !== undefined) return typeof record.event === "string";
  return (
    (record.socket === "main" || record.socket === "twin") &&
    (record.to === "server" || record.to === "client") &&
    isCount(record.size) &&
    isCount(record.fds) &&
    typeof record.head === "string"
  );
}

/** Reads line `number` (from 1) of a record file; the head is null. */
export function parseRecord(line: string, number: number, path: string): TraceRecord | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new FerryError("bad-record", `${path}:${number} is not JSON.`);
  }
  if (number === 1) {
    const head = value as Partial<TraceHead> | null;
    if (head?.format === "vfio-ferry-trace" && head.version === 1) return null;
    throw new FerryError("bad-record", `${path} is no recorded trace of version 1.`);
  }
  if (isRecord(value)) return value;
  throw new FerryError("bad-record", `${path}:${number} is no trace record.`);
}
