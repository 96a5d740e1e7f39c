import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { proposal, version } from "../../src/client/raw-requests.ts";
import {
  defaultLimits,
  formatVersion,
  type Limits,
  msgFdsMax,
  ourMinor,
  parseVersion,
  versionBytesMax,
  versionReplyBytesMax,
} from "../../src/wire/negotiate.ts";

const headerBytes = 16;
const parse = (text: string | Uint8Array, major = 0, minor = 1) =>
  parseVersion(version(major, minor, text).payload);
const propose = (capabilities: Record<string, unknown>) =>
  parseVersion(proposal(capabilities).payload);

/** The limits of a proposal that is expected to be taken. */
function limits(capabilities: Record<string, unknown>): Limits {
  const parsed = propose(capabilities);
  if (typeof parsed === "number") throw new Error(`refused with ${parsed}`);
  return parsed.limits;
}

describe("a proposal that is taken", () => {
  it("may be the version alone, and then has the document's defaults", () => {
    const expected = { major: 0, minor: 1, limits: defaultLimits, twinFdIndex: -1 };
    for (const text of ["", "{}\0", '{"capabilities":{}}\0', ' {"else": 1}\n\0']) {
      expect(parse(text), JSON.stringify(text)).toEqual(expected);
    }
    expect(defaultLimits).toEqual({
      maxMsgFds: 1,
      maxDataXferSize: 1_048_576,
      maxDmaMaps: 65_535,
      pgsizes: 4096,
      writeMultiple: false,
      twinSocket: false,
      precopyInfo: false,
      irqMessages: false,
    });
  });

  it("keeps the proposed minor version", () => {
    for (const minor of [0, 1, 2, 65_535]) expect(parse("", 0, minor)).toMatchObject({ minor });
  });

  it("is QEMU's", () => {
    const parsed = parse(
      '{"capabilities": {"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, ' +
        '"max_msg_fds": 16, "max_data_xfer_size": 1048576, "pgsizes": 4096, ' +
        '"max_dma_maps": 65535, "write_multiple": true}}\0',
      0,
      0,
    );
    expect(parsed).toEqual({
      major: 0,
      minor: 0,
      limits: { ...defaultLimits, maxMsgFds: 16, writeMultiple: true },
      twinFdIndex: -1,
    });
  });

  it("is Cloud Hypervisor's", () => {
    const capabilities = {
      max_msg_fds: 1,
      max_data_xfer_size: 1_048_576,
      migration: { pgsize: 4096 },
    };
    expect(limits(capabilities)).toEqual(defaultLimits);
  });

  it("may name each limit, up to its bound", () => {
    expect(limits({ max_msg_fds: msgFdsMax }).maxMsgFds).toBe(msgFdsMax);
    expect(limits({ max_msg_fds: 0 }).maxMsgFds).toBe(0);
    expect(limits({ max_data_xfer_size: 4 }).maxDataXferSize).toBe(4);
    expect(limits({ max_data_xfer_size: 2 ** 40 }).maxDataXferSize).toBe(2 ** 40);
    expect(limits({ max_dma_maps: 0 }).maxDmaMaps).toBe(0);
    expect(limits({ pgsizes: 4096 + 2 ** 21 }).pgsizes).toBe(4096 + 2 ** 21);
    expect(limits({ write_multiple: true }).writeMultiple).toBe(true);
    expect(limits({ migration: { pgsize: 2 ** 30 }, unknown: [1] })).toEqual(defaultLimits);
  });

  it("may ask for a twin socket, and a reply may say which descriptor it is", () => {
    const twin = (value: unknown) => propose({ twin_socket: value });
    expect(twin({ supported: true })).toMatchObject({
      limits: { twinSocket: true },
      twinFdIndex: -1,
    });
    expect(twin({ supported: true, fd_index: 2 })).toMatchObject({ twinFdIndex: 2 });
    expect(twin({ supported: false, fd_index: 2 })).toMatchObject({
      limits: { twinSocket: false },
      twinFdIndex: -1,
    });
    expect(twin({})).toMatchObject({ limits: { twinSocket: false } });
  });
});

describe("the project's own key", () => {
  it.each([
    [{}, false],
    [{ vfio_ferry: {} }, false],
    [{ vfio_ferry: { precopy_info: false } }, false],
    [{ vfio_ferry: { precopy_info: true, more: [] } }, true],
  ])("%j", (capabilities, precopyInfo) => {
    expect(propose(capabilities)).toMatchObject({ limits: { precopyInfo, irqMessages: false } });
  });

  it("asks for interrupts as messages by a word of its own", () => {
    const asked = propose({ vfio_ferry: { irq_messages: true } });
    expect(asked).toMatchObject({ limits: { precopyInfo: false, irqMessages: true } });
  });
});

describe("a proposal that is refused with EINVAL", () => {
  const refused = -errno.EINVAL;

  it("has no version, or half of one", () => {
    for (let length = 0; length < 4; length++) {
      expect(parseVersion(new Uint8Array(length)), `${length} bytes`).toBe(refused);
    }
  });

  it("has another major version", () => {
    for (const major of [1, 999, 65_535]) expect(parse("{}\0", major)).toBe(refused);
  });

  it.each([
    ["without its NUL", "{}"],
    ["without its closing brace", "{\0"],
    ["that is one quote", '"\0'],
    ["that is only a NUL", "\0"],
    ["with a NUL inside", "{}\0{}\0"],
    ["that is no object", "[]\0"],
    ["that is null", "null\0"],
    ["whose capabilities are text", '{"capabilities":"23"}\0'],
    ["whose capabilities are a list", '{"capabilities":[]}\0'],
    ["whose capabilities are null", '{"capabilities":null}\0'],
    ["that is not UTF-8", Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d, 0)],
    ["that is nested without end", `${"[".repeat(8000)}\0`],
  ])("has a text %s", (_, text) => {
    expect(parse(text)).toBe(refused);
  });

  it("has a text longer than any capability text", () => {
    const padded = (bytes: number) => `{}${" ".repeat(bytes - 3)}\0`;
    expect(parse(padded(versionBytesMax))).toMatchObject({ major: 0 });
    expect(parse(padded(versionBytesMax + 1))).toBe(refused);
  });

  it.each([
    ["max_msg_fds", ["foo", -1, msgFdsMax + 1, 1.5, null, true, {}]],
    ["max_data_xfer_size", ["foo", -1, 0, 0.5, 2 ** 53, 1e300, null]],
    ["max_dma_maps", ["foo", -1, 2 ** 64]],
    ["pgsizes", ["foo", 0, 4095, 2048, 4097, -4096]],
    ["write_multiple", ["true", 1, null]],
    ["twin_socket", [true, [], null, { supported: 1 }, { supported: true, fd_index: -1 }]],
    ["twin_socket", [{ supported: true, fd_index: "0" }, { fd_index: msgFdsMax + 1 }]],
    ["vfio_ferry", ["23", [], null, true, { precopy_info: 1 }, { precopy_info: null }]],
    ["vfio_ferry", [{ irq_messages: 1 }, { precopy_info: true, irq_messages: "true" }]],
    ["migration", ["23", [], null, { pgsize: "foo" }, { pgsize: 4095 }, { pgsize: 0 }]],
    ["migration", [{ pgsize: 2 ** 52 + 1 }, { pgsize: Number.MAX_SAFE_INTEGER }]],
  ])("has a bad %s", (key, values) => {
    for (const value of values) {
      expect(propose({ [key]: value }), JSON.stringify(value)).toBe(refused);
    }
  });

  it("leaves nothing behind on objects", () => {
    parse('{"capabilities":{"__proto__":{"max_msg_fds":5}},"__proto__":{"capabilities":{}}}\0');
    expect(({} as Record<string, unknown>)["max_msg_fds"]).toBeUndefined();
    expect(parse('{"__proto__":{"capabilities":{"max_msg_fds":5}}}\0')).toMatchObject({
      limits: defaultLimits,
    });
  });
});

describe("a VERSION of ours", () => {
  const most: Limits = {
    maxMsgFds: 16,
    maxDataXferSize: 1_048_576,
    maxDmaMaps: 65_535,
    pgsizes: 4096,
    writeMultiple: true,
    twinSocket: true,
    precopyInfo: false,
    irqMessages: false,
  };

  it("is understood by the other side", () => {
    for (const writeMultiple of [false, true]) {
      for (const twinSocket of [false, true]) {
        const own = { precopyInfo: twinSocket, irqMessages: writeMultiple };
        const sent = { ...most, writeMultiple, twinSocket, ...own };
        const twinFdIndex = twinSocket ? 0 : -1;
        for (const terse of [false, true]) {
          const payload = formatVersion(ourMinor, sent, { twinFdIndex: 0, migrates: true, terse });
          expect(parseVersion(payload)).toEqual({ major: 0, minor: 1, limits: sent, twinFdIndex });
        }
      }
    }
  });

  it("fits the buffer that QEMU receives a reply into, whatever QEMU asked for", () => {
    const reply = formatVersion(0, { ...most, twinSocket: false }, { migrates: true });
    expect(headerBytes + reply.length).toBeLessThanOrEqual(versionReplyBytesMax);
  });

  it("names migration, the twin socket and WRITE_MULTI only when they are there", () => {
    const bare = { ...most, writeMultiple: false, twinSocket: false };
    const text = new TextDecoder().decode(formatVersion(1, bare).subarray(4));
    expect(JSON.parse(text.slice(0, -1))).toEqual({
      capabilities: {
        max_msg_fds: 16,
        max_data_xfer_size: 1_048_576,
        max_dma_maps: 65_535,
        pgsizes: 4096,
      },
    });
    expect(text.at(-1)).toBe("\0");
  });

  it("can leave out what the defaults say, and nothing else", () => {
    const text = new TextDecoder().decode(
      formatVersion(1, { ...most, twinSocket: false, precopyInfo: true }, { terse: true }).subarray(
        4,
      ),
    );
    expect(JSON.parse(text.slice(0, -1))).toEqual({
      capabilities: {
        max_msg_fds: 16,
        write_multiple: true,
        vfio_ferry: { precopy_info: true },
      },
    });
  });

  it("as a client's proposal asks for a twin socket without naming a descriptor", () => {
    const text = new TextDecoder().decode(formatVersion(1, most).subarray(4, -1));
    expect(JSON.parse(text)).toMatchObject({ capabilities: { twin_socket: { supported: true } } });
    expect(text).not.toContain("fd_index");
  });
});
