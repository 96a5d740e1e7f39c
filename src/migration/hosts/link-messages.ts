/**
 * What two hosts say to each other: docs/migration-protocol.md as a table. A frame is its type
 * (u8), the payload's length (u32, little endian) and the payload: raw for DATA, JSON for all else.
 */
import type { Frame } from "./link.ts";
import * as s from "./shapes.ts";

/** The only version there is. */
export const protocolVersion = 1;

/** Bytes before a payload. */
export const frameHeaderBytes = 5;
/** Longest payloads, of DATA and of everything else. */
export const dataBytesMax = 1024 * 1024;
export const controlBytesMax = 64 * 1024;

/** 128 bits as 32 hexadecimal digits. */
export const token: s.Reader<string> = (value) =>
  typeof value === "string" && /^[0-9a-f]{32}$/.test(value) ? value : undefined;

/** A host or a device. */
export const name = s.text(256);
const u16 = s.whole(0xffff);

export const compatibility = s.object({
  driver: s.text(64),
  version: s.whole(),
  oldestVersion: s.whole(),
  vendor: u16,
  device: u16,
  revision: s.whole(0xff),
  facts: s.dictionary(s.either<number, string>(s.amount, s.text(256)), 64),
});

/** A phase as it went on the target, in milliseconds since it heard HELLO. */
const phaseTime = s.object({ phase: s.text(32), startMs: s.amount, elapsedMs: s.amount });

/** Who has the device, as the target knows it. */
export const fates = ["own", "never", "undecided"] as const;

/** Every message: who says it, its type, and what is in it. */
export const messages = {
  /** The device that is coming, and that it was offered a place. */
  hello: {
    by: "source",
    type: 1,
    body: s.object({
      protocol: s.whole(),
      token,
      device: name,
      compatibility,
      /** `precheck` asks only: the offer stands, and the link ends after the answer. */
      purpose: s.oneOf("migrate", "precheck"),
    }),
  },
  /** It may come. */
  accept: { by: "target", type: 2, body: s.object({ device: name }) },
  /** It may not, or it made no sense. After VALIDATED: durably so. */
  refuse: { by: "target", type: 3, body: s.object({ sentence: s.sentence }) },
  /** The next bytes of the stream. */
  data: { by: "source", type: 4, body: null },
  /** The whole stream was sent: so many bytes. */
  end: { by: "source", type: 5, body: s.object({ bytes: s.whole() }) },
  /** It is loaded, and waits. */
  validated: { by: "target", type: 6, body: s.object({}) },
  /** The source has durably let go of the decision. */
  commit: { by: "source", type: 7, body: s.object({ token }) },
  /** The device is durably the target's. `trouble` is empty when it runs or can be set going. */
  own: {
    by: "target",
    type: 8,
    body: s.object({ trouble: s.sentence, phases: s.list(phaseTime, 64) }),
  },
  /** The source has durably heard what became of it; the target need not remember. */
  released: { by: "source", type: 9, body: s.object({ token }) },
  /** The migration ends here; never said by a source that has said COMMIT. */
  abort: { by: "both", type: 10, body: s.object({ reason: s.sentence }) },
  /** What has become of it? The first and only question of a link. */
  query: { by: "source", type: 11, body: s.object({ token }) },
  answer: {
    by: "target",
    type: 12,
    body: s.object({ fate: s.oneOf(...fates), sentence: s.sentence }),
  },
  /** I am still there. */
  ping: { by: "both", type: 13, body: s.object({}) },
} as const;

type Messages = typeof messages;
export type MessageName = keyof Messages;
export type FrameType = Messages[MessageName]["type"];
type BodyOf<N extends MessageName> =
  Messages[N]["body"] extends s.Reader<infer T> ? T : { readonly bytes: Uint8Array<ArrayBuffer> };

/** A message as code reads it: `{ say: "end", bytes: 4096 }`. */
export type Message = { [N in MessageName]: { readonly say: N } & BodyOf<N> }[MessageName];
export type MessageOf<N extends MessageName> = Extract<Message, { say: N }>;
export type PhaseTime = s.Read<typeof phaseTime>;

const byType = new Map<number, MessageName>(
  Object.entries(messages).map(([say, { type }]) => [type, say as MessageName]),
);

/** The longest payload of a type; -1 for one that there is not. */
export function payloadBytesMax(type: number): number {
  if (!byType.has(type)) return -1;
  return type === messages.data.type ? dataBytesMax : controlBytesMax;
}

export const isFrameType = (type: number): type is FrameType => byType.has(type);

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true });

/** A message as its frame. */
export function encode(message: Message): Frame {
  const { say, ...body } = message;
  if (message.say === "data") return { type: messages.data.type, payload: message.bytes };
  return { type: messages[say].type, payload: utf8.encode(JSON.stringify(body)) };
}

/** A frame's message; null when it makes no sense. */
export function decode({ type, payload }: Frame): Message | null {
  const say = byType.get(type);
  if (say === undefined || payload.length > payloadBytesMax(type)) return null;
  const reader = messages[say].body as s.Reader<object> | null;
  if (reader === null) return { say: "data", bytes: payload };
  const body = reader(s.parseJson(textOf(payload)));
  return body === undefined ? null : ({ say, ...body } as Message);
}

/** Empty, which is no JSON, for what is no UTF-8. */
function textOf(bytes: Uint8Array): string {
  try {
    return fromUtf8.decode(bytes);
  } catch {
    return "";
  }
}
