/** What is in a file of a device's state, taken apart, and such a file made of sections. */
import { writeFile } from "node:fs/promises";
import { FerryError } from "../../base/errors.ts";
import type { Compatibility, Section } from "../../migration/driver.ts";
import type { Message, MessageOf } from "../../migration/hosts/link-messages.ts";
import { decode, encode, protocolVersion } from "../../migration/hosts/link-messages.ts";
import { formatHeader } from "../../migration/stream-header.ts";
import { StreamReader } from "../../migration/stream-reader.ts";
import { StreamWriter } from "../../migration/stream-writer.ts";
import { FileSource } from "./file-source.ts";
import { frameHeader } from "./frame-reader.ts";
import { headerOf } from "./state-file.ts";

const pieceBytes = 1_048_576;

/** A state file's header and its sections, all of them whole. */
export interface StateContents {
  readonly hello: MessageOf<"hello">;
  readonly sections: readonly Section[];
}

/** Reads a state file whose sections fit into memory; a FerryError says what is wrong with it. */
export async function readState(path: string): Promise<StateContents> {
  const link = await FileSource.open(path);
  const sections: Section[] = [];
  const reader = new StreamReader({
    header: () => null,
    section: (section) => {
      sections.push({ ...section, bytes: section.bytes.slice() });
      return null;
    },
    nameOf: (kind) => `kind 0x${kind.toString(16)}`,
  });
  try {
    await link.receive();
    await link.send(encode({ say: "accept", device: path }));
    for (;;) {
      const frame = await link.receive();
      const message: Message | null = frame === null ? null : decode(frame);
      if (message?.say !== "data") break;
      reader.write(message.bytes, 0, message.bytes.length);
    }
  } finally {
    link.close();
  }
  const wrong = reader.shortcoming;
  if (wrong !== null) throw new FerryError("no-state", `${path} is damaged: ${wrong}.`);
  return { hello: link.hello, sections };
}

/** The stream of a device like this with these sections. */
function streamOf(like: Compatibility, sections: readonly Section[]): Uint8Array<ArrayBuffer>[] {
  const writer = new StreamWriter();
  const waiting = [...sections];
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  writer.begin(formatHeader(like, 0));
  for (;;) {
    const bytes = new Uint8Array(pieceBytes);
    const sink = { bytes, at: 0, lend: () => {} };
    const count = writer.read(sink, pieceBytes, () => waiting.shift() ?? null, true);
    pieces.push(bytes.subarray(0, count));
    if (count < pieceBytes) return pieces;
  }
}

/** Writes a state file for a device like this; only its owner can read it. */
export async function writeState(
  path: string,
  like: Compatibility,
  token: string,
  sections: readonly Section[],
): Promise<void> {
  const pieces = streamOf(like, sections);
  const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
  const frames = [
    ...pieces.map((piece) => encode({ say: "data", bytes: piece })),
    encode({ say: "end", bytes }),
  ];
  const hello: MessageOf<"hello"> = {
    say: "hello",
    protocol: protocolVersion,
    token,
    device: like.driver,
    compatibility: like,
    purpose: "migrate",
  };
  const parts = [
    Buffer.from(headerOf(hello)),
    ...frames.flatMap((frame) => [frameHeader(frame), frame.payload]),
  ];
  await writeFile(path, Buffer.concat(parts), { mode: 0o600, flag: "wx" });
}
