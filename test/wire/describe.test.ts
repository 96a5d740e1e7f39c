import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Feature, FeatureFlags, IrqFlags, IrqSetFlags, RegionFlags } from "../../src/spec/vfio.ts";
import {
  Command,
  DmaMapFlags,
  DmaUnmapFlags,
  Header,
  HeaderFlags,
  IoEventfdFlags,
  MessageType,
  noFdIndex,
  OwnFeature,
} from "../../src/spec/vfio-user.ts";
import { describeMessage, Way } from "../../src/wire/describe.ts";

/** One message with its title; the way is to the server for commands unless it says otherwise. */
interface Sample {
  readonly title: string;
  readonly command: number;
  readonly payload?: Uint8Array;
  readonly flags?: number;
  readonly error?: number;
  readonly size?: number;
  readonly fds?: number;
  readonly way?: Way;
}

const { noReply, error: failed } = HeaderFlags.mask;
const reply = MessageType.reply;

/** Little-endian pieces: `pack("42", 1, 2)` is four bytes and two bytes. */
function pack(widths: string, ...values: ReadonlyArray<number | bigint>): Uint8Array {
  const bytes = new Uint8Array(Array.from(widths, Number).reduce((sum, each) => sum + each, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [i, width] of Array.from(widths, Number).entries()) {
    const value = BigInt(values[i] ?? 0);
    for (let byte = 0; byte < width; byte++) {
      view.setUint8(at + byte, Number((value >> BigInt(8 * byte)) & 255n));
    }
    at += width;
  }
  return bytes;
}

const join = (...parts: Uint8Array[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => Array.from(part)));
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const count = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i);

function encode({ command, payload = new Uint8Array(0), flags = 0, error = 0, size }: Sample) {
  const bytes = new Uint8Array(Header.size + payload.length);
  Header.set(new DataView(bytes.buffer), 0, {
    messageId: 7,
    command,
    messageSize: size ?? bytes.length,
    flags,
    error,
  });
  bytes.set(payload, Header.size);
  return bytes;
}

function line(sample: Sample): string {
  const isReply = ((sample.flags ?? 0) & HeaderFlags.mask.type) === reply;
  const way = sample.way ?? (isReply ? Way.toClient : Way.toServer);
  return describeMessage(way, encode(sample), sample.fds ?? 0);
}

const regionInfo = (flags: number, capOffset: number, size: bigint) =>
  pack("444488", capOffset === 0 ? 32 : 80, flags, 1, capOffset, size, 0x8000);
const feature = (flags: number, index: number, ...data: Uint8Array[]) =>
  join(pack("44", 64, flags | index), ...data);
const { get, set, probe } = FeatureFlags.mask;
const { read, write, mmap, caps } = RegionFlags.mask;
const { dataNone, dataBool, dataEventfd, actionMask, actionTrigger } = IrqSetFlags.mask;
const capabilities = '{"capabilities":{"max_msg_fds":16,"twin_socket":{"supported":true}}}\0';

const samples: readonly Sample[] = [
  {
    title: "VERSION",
    command: Command.version,
    payload: join(pack("22", 0, 1), text(capabilities)),
  },
  {
    title: "VERSION's reply with a twin socket",
    command: Command.version,
    payload: join(pack("22", 0, 1), text('{"capabilities":{}}\0')),
    flags: reply,
    fds: 1,
  },
  {
    title: "VERSION with what does not belong in a line",
    command: Command.version,
    payload: join(pack("22", 0, 1), text('{"\n\u001b[31m\u0000\u00e9"}')),
  },
  {
    title: "VERSION that is long",
    command: Command.version,
    payload: join(pack("22", 0, 1), text("x".repeat(5000))),
  },
  {
    title: "DMA_MAP with a file",
    command: Command.dmaMap,
    payload: pack(
      "44888",
      32,
      DmaMapFlags.mask.read | DmaMapFlags.mask.write,
      0,
      0x8_0000_0000n,
      2n ** 31n,
    ),
    fds: 1,
  },
  { title: "DMA_MAP's reply", command: Command.dmaMap, flags: reply },
  {
    title: "DMA_UNMAP",
    command: Command.dmaUnmap,
    payload: pack("4488", 24, 0, 0x1000, 0x2000),
  },
  {
    title: "DMA_UNMAP of everything",
    command: Command.dmaUnmap,
    payload: pack("4488", 24, DmaUnmapFlags.mask.all, 0, 0),
  },
  {
    title: "DMA_UNMAP's reply with a bitmap",
    command: Command.dmaUnmap,
    payload: join(
      pack("4488", 48, DmaUnmapFlags.mask.getDirtyBitmap, 0x1000, 0x2000),
      pack("88", 4096, 8),
      pack("8", 3),
    ),
    flags: reply,
  },
  { title: "GET_INFO", command: Command.deviceGetInfo, payload: pack("4444", 16, 0, 0, 0) },
  {
    title: "GET_INFO's reply",
    command: Command.deviceGetInfo,
    payload: pack("4444", 16, 3, 9, 5),
    flags: reply,
  },
  {
    title: "GET_REGION_INFO's reply with sparse areas",
    command: Command.deviceGetRegionInfo,
    payload: join(
      regionInfo(read | write | mmap | caps, 32, 0x8000n),
      pack("22444", 1, 1, 0, 2, 0),
      pack("8888", 0x2000, 0x1000, 0x4000, 0x2000),
    ),
    flags: reply,
    fds: 1,
  },
  {
    title: "GET_REGION_INFO's reply with more areas than are shown",
    command: Command.deviceGetRegionInfo,
    payload: join(
      regionInfo(read | mmap | caps, 32, 0x8000n),
      pack("22444", 1, 1, 0, 6, 0),
      ...[0, 1, 2, 3, 4, 5].map((i) => pack("88", i * 0x2000, 0x1000)),
    ),
    flags: reply,
    fds: 1,
  },
  {
    title: "GET_REGION_INFO's reply with areas that are not there",
    command: Command.deviceGetRegionInfo,
    payload: join(
      regionInfo(read | caps, 32, 2n ** 64n - 1n),
      pack("22444", 1, 1, 0, 0xffff_ffff, 0),
      pack("8", 1),
    ),
    flags: reply,
  },
  {
    title: "GET_REGION_IO_FDS's reply",
    command: Command.deviceGetRegionIoFds,
    payload: join(
      pack("4444", 96, 0, 0, 2),
      pack("8844448", 0x80, 4, 0, 0, 0, 0, 0),
      pack("8844448", 0x88, 2, noFdIndex, 1, IoEventfdFlags.mask.datamatch, 0, 0xffn),
    ),
    flags: reply,
    fds: 1,
  },
  {
    title: "GET_IRQ_INFO's reply",
    command: Command.deviceGetIrqInfo,
    payload: pack("4444", 16, IrqFlags.mask.eventfd | IrqFlags.mask.noresize, 2, 2048),
    flags: reply,
  },
  {
    title: "SET_IRQS with eventfds",
    command: Command.deviceSetIrqs,
    payload: pack("44444", 20, dataEventfd | actionTrigger, 2, 4, 3),
    fds: 3,
  },
  {
    title: "SET_IRQS with bools",
    command: Command.deviceSetIrqs,
    payload: join(pack("44444", 23, dataBool | actionMask, 1, 0, 3), Uint8Array.of(1, 0, 1)),
  },
  {
    title: "SET_IRQS that disables",
    command: Command.deviceSetIrqs,
    payload: pack("44444", 20, dataNone | actionTrigger, 0, 0, 0),
  },
  {
    title: "REGION_READ",
    command: Command.regionRead,
    payload: pack("844", 0x10, 0, 4),
  },
  {
    title: "REGION_READ's reply",
    command: Command.regionRead,
    payload: join(pack("844", 0x10, 0, 4), text("helo")),
    flags: reply,
  },
  {
    title: "REGION_WRITE, posted, with more data than is shown",
    command: Command.regionWrite,
    payload: join(pack("844", 0x40, 7, 32), count(32)),
    flags: noReply,
  },
  {
    title: "REGION_READ from the end of the address space",
    command: Command.regionRead,
    payload: pack("844", 2n ** 64n - 1n, 9, 0xffff_ffff),
  },
  {
    title: "an error reply",
    command: Command.regionRead,
    flags: reply | failed,
    error: 22,
  },
  {
    title: "an error reply with a payload and an unknown errno",
    command: Command.regionWrite,
    payload: count(16),
    flags: reply | failed,
    error: 48_879,
  },
  {
    title: "DMA_READ",
    command: Command.dmaRead,
    payload: pack("88", 0x1_0000_0000n, 4096),
    way: Way.toClient,
  },
  {
    title: "DMA_WRITE",
    command: Command.dmaWrite,
    payload: join(pack("88", 0x1000, 2), Uint8Array.of(0xaa, 0x55)),
    way: Way.toClient,
  },
  { title: "DEVICE_RESET", command: Command.deviceReset },
  { title: "the command that was taken back", command: 14, payload: count(4) },
  {
    title: "REGION_WRITE_MULTI",
    command: Command.regionWriteMulti,
    payload: join(pack("8", 2), pack("8448", 8, 0, 4, 1), pack("8448", 0x100, 2, 8, 0xfeedn)),
    flags: noReply,
  },
  {
    title: "REGION_WRITE_MULTI with entries that are not there",
    command: Command.regionWriteMulti,
    payload: join(pack("8", 2n ** 63n), pack("84", 8, 0)),
  },
  {
    title: "DEVICE_FEATURE: which states",
    command: Command.deviceFeature,
    payload: feature(get, Feature.migration, pack("8", 5)),
    flags: reply,
  },
  {
    title: "DEVICE_FEATURE: a state",
    command: Command.deviceFeature,
    payload: feature(set, Feature.migDeviceState, pack("44", 3, 0xffff_ffff)),
  },
  {
    title: "DEVICE_FEATURE: is there one",
    command: Command.deviceFeature,
    payload: feature(probe | get, 40),
  },
  {
    title: "DEVICE_FEATURE: log these ranges",
    command: Command.deviceFeature,
    payload: feature(
      set,
      Feature.dmaLoggingStart,
      pack("844", 4096, 1, 0),
      pack("88", 0x10_0000, 0x20_0000),
    ),
  },
  {
    title: "DEVICE_FEATURE: what is dirty",
    command: Command.deviceFeature,
    payload: feature(
      get,
      Feature.dmaLoggingReport,
      pack("888", 0, 0x8_0000, 4096),
      pack("88", 0xff00n, 1),
    ),
    flags: reply,
  },
  {
    title: "DEVICE_FEATURE: what PRE_COPY has to send",
    command: Command.deviceFeature,
    payload: feature(get, OwnFeature.precopyInfo, pack("4488", 24, 0, 70_000, 12)),
    flags: reply,
  },
  {
    title: "DEVICE_FEATURE cut inside of its data",
    command: Command.deviceFeature,
    payload: feature(set, Feature.migDeviceState, pack("2", 3)),
  },
  {
    title: "MIG_DATA_READ's reply, longer than what was captured",
    command: Command.migDataRead,
    payload: join(pack("44", 1_048_584, 1_048_576), count(20)),
    flags: reply,
    size: 16 + 8 + 1_048_576,
  },
  {
    title: "MIG_DATA_WRITE of nothing",
    command: Command.migDataWrite,
    payload: pack("44", 8, 0),
  },
  { title: "a payload that is missing", command: Command.regionRead },
  { title: "a payload that is short", command: Command.deviceGetInfo, payload: count(5) },
  { title: "a payload that nobody expects", command: Command.deviceReset, payload: count(40) },
  { title: "an unknown command", command: 999, payload: count(3), fds: 2 },
  { title: "a type that is neither", command: Command.regionRead, flags: 0x47 },
  { title: "a size below the header's", command: Command.version, size: 15 },
  { title: "a size below what came", command: Command.deviceReset, payload: count(8), size: 18 },
];

describe("a message as a line", () => {
  it("names the way, the command, the id and every field", async () => {
    const lines = samples.map((sample) => `# ${sample.title}\n${line(sample)}\n`);
    await expect(lines.join("\n")).toMatchFileSnapshot("../golden/describe.txt");
  });

  it("says what it can of less than a header", () => {
    expect(describeMessage(Way.toServer, count(3), 0)).toBe("→ no header bytes=00 01 02");
    expect(describeMessage(Way.toClient, new Uint8Array(0), 1)).toBe("← no header fds=1");
  });

  it("takes a message wherever it lies in its buffer", () => {
    for (const sample of samples) {
      const bytes = encode(sample);
      const shifted = new Uint8Array(bytes.length + 3);
      shifted.set(bytes, 3);
      const way = Way.toServer;
      expect(describeMessage(way, shifted.subarray(3), 0)).toBe(describeMessage(way, bytes, 0));
    }
  });
});

/** Any header, a known command more often than not, and any payload. */
const anyMessage = fc
  .record({
    command: fc.oneof(fc.constantFrom(...Object.values(Command)), fc.nat(0xffff)),
    flags: fc.oneof(fc.constantFrom(0, 1, noReply, reply | failed), fc.nat()),
    error: fc.nat(),
    size: fc.oneof(fc.nat(300), fc.nat(), fc.constant(undefined)),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => bytes.map((byte) => (byte & 1) * 255)),
    ),
  })
  .map(({ size, ...sample }) =>
    encode({ title: "", ...sample, ...(size === undefined ? {} : { size }) }),
  );

describe("noise", () => {
  it("becomes one short line, whatever it is and wherever it is cut", () => {
    fc.assert(
      fc.property(anyMessage, fc.nat(250), fc.nat(4), (bytes, end, fds) => {
        const shown = describeMessage(Way.toServer, bytes.subarray(0, end), fds);
        expect(shown).toMatch(/^→ [\x20-\x7e…]+$/);
        expect(shown.length).toBeLessThan(1000);
      }),
    );
  });

  it("a list of any length costs a few entries", () => {
    const many = 1_000_000;
    const payload = new Uint8Array(8 + many);
    payload.set(pack("8", 2n ** 64n - 1n));
    const shown = line({ title: "", command: Command.regionWriteMulti, payload });
    expect(shown.match(/\{/g)).toHaveLength(4);
    const ranges = feature(set, Feature.dmaLoggingStart, pack("844", 1, 0xffff_ffff, 0));
    const control = join(ranges, new Uint8Array(200));
    const logged = line({ title: "", command: Command.deviceFeature, payload: control });
    expect(logged.match(/\{/g)).toHaveLength(4);
  });
});
