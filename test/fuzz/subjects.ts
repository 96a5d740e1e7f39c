/** What is fuzzed in this process: one function a subject, which throws when it is wrong. */
import { deepStrictEqual, ok } from "node:assert/strict";
import { errno } from "../../src/base/errno.ts";
import { joined, message, proposal } from "../../src/client/raw-requests.ts";
import { Command } from "../../src/spec/vfio-user.ts";
import type { describeMessage } from "../../src/wire/describe.ts";
import { Frame } from "../../src/wire/framer.ts";
import { formatVersion, msgFdsMax, type parseVersion } from "../../src/wire/negotiate.ts";
import {
  type Found,
  makeFramer,
  naiveFrames,
  type Piece,
  type Receiving,
  receiveAll,
} from "./framer-model.ts";
import type { Random } from "./random.ts";

/** One message, or a header that lies about its size, with its body where it has one. */
function anyMessage(random: Random, messageBytesMax: number): Uint8Array {
  const request = { command: random.u32() & 0xffff, payload: new Uint8Array(0) };
  const choice = { messageId: random.u32() & 0xffff, flags: random.u32(), error: random.u32() };
  if (random.oneIn(8)) return message(request, { ...choice, messageSize: random.below(16) });
  if (random.oneIn(8)) {
    const messageSize = messageBytesMax + random.between(1, 300);
    return joined(message(request, { ...choice, messageSize }), random.bytes(messageSize - 16));
  }
  const payload = random.bytes(random.below(messageBytesMax - 15));
  return message({ ...request, payload }, choice);
}

/** Pieces of messages; a piece with descriptors is one message or the front of one. */
function anyPieces(random: Random, messages: readonly Uint8Array[]): Piece[] {
  const pieces: Piece[] = [];
  let nextFd = 100;
  for (const bytes of messages) {
    const fds = random.oneIn(3) ? Array.from({ length: random.between(1, 4) }, () => nextFd++) : [];
    const cut = random.oneIn(2) ? random.between(1, bytes.length) : bytes.length;
    pieces.push({ bytes: bytes.subarray(0, cut), fds });
    if (cut < bytes.length) pieces.push({ bytes: bytes.subarray(cut), fds: [] });
  }
  return pieces;
}

type Wrap = (framer: ReturnType<typeof makeFramer>) => { bytes: Uint8Array; framer: Receiving };

/** A framer against the plain rule: same messages, each with its own descriptors. */
export function fuzzFramer(random: Random, wrap: Wrap = (made) => made): void {
  const messageBytesMax = random.between(16, 200);
  const capacity = messageBytesMax + random.below(400);
  const messages = Array.from({ length: random.between(1, 20) }, () =>
    anyMessage(random, messageBytesMax),
  );
  const pieces = anyPieces(random, messages);
  const expected: Found[] = naiveFrames(joined(...messages), messageBytesMax);
  let at = 0;
  const fdsOf = messages.map((bytes) => {
    const own: number[] = [];
    for (let left = bytes.length; left > 0; at++) {
      own.push(...(pieces[at] as Piece).fds);
      left -= (pieces[at] as Piece).bytes.length;
    }
    return own;
  });
  const widest = random.pick([1, 7, 40, 1000]);
  const { found, closed } = receiveAll(wrap(makeFramer(capacity, messageBytesMax)), pieces, () =>
    random.between(1, widest),
  );
  deepStrictEqual(
    found,
    expected.map((each, i) => ({ ...each, fds: fdsOf[i] as number[] })),
  );
  deepStrictEqual(closed, []);
}

/** Descriptors in any places: none is lost and none is given out twice. */
export function fuzzDescriptors(random: Random, wrap: Wrap = (made) => made): void {
  const messageBytesMax = random.between(16, 120);
  const stream = joined(
    ...Array.from({ length: random.between(1, 12) }, () => anyMessage(random, messageBytesMax)),
    random.bytes(random.below(40)),
  );
  const pieces: Piece[] = [];
  let nextFd = 100;
  for (let at = 0; at < stream.length; ) {
    const length = random.between(1, 60);
    const fds = Array.from({ length: random.oneIn(2) ? random.below(5) : 0 }, () => nextFd++);
    pieces.push({ bytes: stream.subarray(at, at + length), fds });
    at += length;
  }
  const made = wrap(makeFramer(messageBytesMax + random.below(100), messageBytesMax));
  const { found, closed } = receiveAll(made, pieces, () => random.between(1, 90));
  deepStrictEqual(
    found.map(({ frame, bytes }) => ({ frame, bytes })),
    naiveFrames(stream, messageBytesMax).map(({ frame, bytes }) => ({ frame, bytes })),
  );
  const all = [...found.flatMap(({ fds }) => fds), ...closed].sort((a, b) => a - b);
  deepStrictEqual(
    all,
    pieces.flatMap(({ fds }) => fds),
  );
  ok(found.every(({ frame }) => frame !== Frame.partial));
}

/** JSON values that a capability can be given. */
function anyValue(random: Random, depth = 0): unknown {
  const simple = [
    () => random.number32(),
    () => -random.number32(),
    () => random.u32() / 7,
    () => random.u32() * 2 ** 31,
    () => random.oneIn(2),
    () => null,
    () => String.fromCodePoint(random.below(0xd800), random.below(128)),
  ];
  if (depth > 2 || !random.oneIn(3)) return random.pick(simple)();
  if (random.oneIn(2)) return [anyValue(random, depth + 1)];
  const names = ["supported", "fd_index", "pgsize", "capabilities", "__proto__", "x"];
  return Object.fromEntries([[random.pick(names), anyValue(random, depth + 1)]]);
}

/** For each capability a value that is mostly in order. */
const capabilities: Readonly<Record<string, (random: Random) => unknown>> = {
  max_msg_fds: (random) => random.below(1100),
  max_data_xfer_size: (random) => 2 ** random.below(54),
  max_dma_maps: (random) => random.number32(),
  pgsizes: (random) => 4096 * random.between(1, 600),
  write_multiple: (random) => random.oneIn(2),
  twin_socket: (random) => ({ supported: random.oneIn(2), fd_index: random.below(1100) }),
  migration: (random) => ({ pgsize: 2 ** random.below(54), more: 1 }),
  surprise: (random) => anyValue(random),
  ["__proto__"]: (random) => anyValue(random),
};

/** Any VERSION payload is refused with EINVAL or understood, with limits that can be relied on. */
export function fuzzVersion(random: Random, parse: typeof parseVersion): void {
  const rarity = random.pick([2, 5, 9]);
  const chosen = Object.entries(capabilities)
    .filter(() => random.oneIn(rarity))
    .map(([key, value]) => [key, random.oneIn(5) ? anyValue(random) : value(random)]);
  const { payload } = proposal(Object.fromEntries(chosen), random.u32() & 0xffff);
  for (let i = random.pick([0, 0, 1, 3]); i > 0; i--) {
    payload[random.below(payload.length)] = random.oneIn(2) ? 0 : random.u32() & 0xff;
  }
  const cut = random.oneIn(4) ? payload.subarray(0, random.below(payload.length + 1)) : payload;
  const parsed = parse(random.oneIn(9) ? random.bytes(random.below(64)) : cut);
  if (typeof parsed === "number") {
    deepStrictEqual(parsed, -errno.EINVAL);
    return;
  }
  const { limits, twinFdIndex, minor } = parsed;
  ok(Number.isInteger(minor) && minor >= 0 && minor <= 0xffff);
  ok(Number.isInteger(limits.maxMsgFds) && limits.maxMsgFds >= 0 && limits.maxMsgFds <= msgFdsMax);
  ok(Number.isSafeInteger(limits.maxDataXferSize) && limits.maxDataXferSize > 0);
  ok(Number.isSafeInteger(limits.maxDmaMaps) && limits.maxDmaMaps >= 0);
  ok(Number.isSafeInteger(limits.pgsizes) && limits.pgsizes % 4096 === 0 && limits.pgsizes > 0);
  ok(typeof limits.writeMultiple === "boolean" && typeof limits.twinSocket === "boolean");
  ok(Number.isInteger(twinFdIndex) && twinFdIndex >= -1 && twinFdIndex <= msgFdsMax);
  const again = parse(formatVersion(minor, limits, { twinFdIndex: Math.max(0, twinFdIndex) }));
  ok(typeof again === "object");
  deepStrictEqual(again.limits, limits);
}

const commands: readonly number[] = [...Object.values(Command), 0, 14, 99, 0xffff];
const lineMax = 4000;

/** Any message becomes one line of bounded length. */
export function fuzzDescribe(random: Random, describe: typeof describeMessage): void {
  const payload = random.oneIn(2)
    ? random.bytes(random.below(200))
    : Uint8Array.from({ length: random.below(200) }, () => random.pick([0, 0, 0, 1, 2, 8, 255]));
  const choice = {
    messageId: random.u32() & 0xffff,
    flags: random.oneIn(2) ? random.below(64) : random.u32(),
    error: random.number32(),
    ...(random.oneIn(4) ? { messageSize: random.number32() } : {}),
  };
  const whole = message({ command: random.pick(commands), payload }, choice);
  const bytes = random.oneIn(3) ? whole.subarray(0, random.below(whole.length + 1)) : whole;
  const line = describe(random.oneIn(2) ? "→" : "←", bytes, random.below(300));
  ok(line.length > 0 && line.length < lineMax, `a line of ${line.length} characters`);
  ok(!/\p{Cc}/u.test(line), `no control character in ${JSON.stringify(line)}`);
}
