/** What another host says: every decoder gives a value or nothing, and keeps to its limits. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  controlBytesMax,
  decode,
  encode,
  type FrameType,
  type Message,
  messages,
  payloadBytesMax,
  token,
} from "../../../src/migration/hosts/link-messages.ts";
import { Offers, offersMax, sameText } from "../../../src/migration/hosts/offers.ts";
import * as s from "../../../src/migration/hosts/shapes.ts";

const t = "0123456789abcdef0123456789abcdef";
const compatibility = {
  driver: "hisi-acc",
  version: 1,
  oldestVersion: 1,
  vendor: 0x19e5,
  device: 0xa25b,
  revision: 0x30,
  facts: { queues: 256, algorithm: "sec2" },
};
const all: readonly Message[] = [
  { say: "hello", protocol: 1, token: t, device: "x", compatibility, purpose: "migrate" },
  { say: "accept", device: "x" },
  { say: "refuse", sentence: "no." },
  { say: "data", bytes: Uint8Array.of(1, 2, 3) },
  { say: "end", bytes: 3 },
  { say: "validated" },
  { say: "commit", token: t },
  { say: "own", trouble: "", phases: [{ phase: "thaw", startMs: 1.5, elapsedMs: 0 }] },
  { say: "released", token: t },
  { say: "abort", reason: "so." },
  { say: "query", token: t },
  { say: "answer", fate: "never", sentence: "" },
  { say: "ping" },
];

describe("messages", () => {
  it("arrive as they were said, every one of them", () => {
    for (const message of all) expect(decode(encode(message))).toEqual(message);
    expect(new Set(all.map(({ say }) => say)).size).toBe(Object.keys(messages).length);
  });

  it("have types of their own", () => {
    const types = Object.values(messages).map(({ type }) => type);
    expect(new Set(types).size).toBe(types.length);
  });

  it("that make no sense are nothing, and never an error", () => {
    fc.assert(
      fc.property(fc.nat(20), fc.uint8Array({ maxLength: 200 }), (type, bytes) => {
        const payload = Uint8Array.from(bytes);
        const message = decode({ type: type as FrameType, payload });
        if (message !== null && message.say !== "data") {
          expect(decode(encode(message))).toEqual(message);
        }
      }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(messages)), fc.json(), ({ type }, json) => {
        decode({ type, payload: Uint8Array.from(Buffer.from(json)) });
      }),
    );
  });

  it("lose what is not in their table, and are refused for what is out of its range", () => {
    const hello = all[0] as object;
    const said = (more: object): Message | null => {
      const { say: _, ...body } = { ...hello, ...more } as unknown as { say: string };
      const payload = Uint8Array.from(Buffer.from(JSON.stringify(body)));
      return decode({ type: messages.hello.type, payload });
    };
    expect(said({ more: 1, __proto__: { evil: 1 } })).toEqual(hello);
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`f${i}`, i]));
    for (const wrong of [
      { token: undefined },
      { token: t.toUpperCase() },
      { token: `${t}0` },
      { device: "a\nb" },
      { device: "x".repeat(257) },
      { purpose: "conquer" },
      { protocol: -1 },
      { compatibility: { ...compatibility, vendor: 0x10000 } },
      { compatibility: { ...compatibility, facts: many } },
      { compatibility: null },
    ]) {
      expect(said(wrong), JSON.stringify(wrong).slice(0, 80)).toBeNull();
    }
  });

  it("are bounded, whatever their header says", () => {
    const payload = new Uint8Array(controlBytesMax + 1).fill(0x20);
    for (const { type } of Object.values(messages)) {
      expect(payloadBytesMax(type)).toBeLessThanOrEqual(1024 * 1024);
      if (type !== messages.data.type) expect(decode({ type, payload })).toBeNull();
    }
    expect(payloadBytesMax(0)).toBe(-1);
    expect(payloadBytesMax(200)).toBe(-1);
  });

  it("show sentences that are short and have no control characters", () => {
    const said = s.sentence(`\u001b[31m${"x".repeat(5000)}`);
    expect(said).toHaveLength(s.sentenceCharsMax);
    expect(said).not.toContain("\u001b");
  });
});

describe("offers", () => {
  const offers = (): { offers: Offers; pass(ms: number): void } => {
    let now = 0;
    let next = 1;
    const random = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(next++);
    return { offers: new Offers(random, () => now), pass: (ms) => (now += ms) };
  };

  it("are taken once, by the host they are for", () => {
    const { offers: o } = offers();
    const { token: given } = o.put("alice");
    expect(token(given)).toBe(given);
    expect(o.take(given, ["mallory"])).toBe(o.take("0".repeat(32), ["alice"]));
    expect(o.find(given, ["alice"])).toMatchObject({ from: "alice" });
    expect(o.find(given, ["alice.example", "alice"])).toMatchObject({ from: "alice" });
    expect(o.take(given, ["alice"])).toMatchObject({ from: "alice" });
    expect(typeof o.take(given, ["alice"])).toBe("string");
  });

  it("end after their time, or before it", () => {
    const { offers: o, pass } = offers();
    const short = o.put("alice", { lastsMs: 1000 });
    const withdrawn = o.put("alice", { lastsMs: 5000 });
    o.withdraw(withdrawn);
    pass(999);
    expect(o.size).toBe(1);
    pass(1);
    expect(o.size).toBe(0);
    expect(typeof o.take(short.token, ["alice"])).toBe("string");
  });

  it("end one by one, though two have the same token", () => {
    const { offers: o } = offers();
    const { token: same } = o.put("alice");
    const file = o.put("file", { token: same, thaw: "when told" });
    expect(o.find(same, ["file"])).toMatchObject({ thaw: "when told" });
    o.withdraw(file);
    expect(o.find(same, ["file"])).toBe(o.find("", []));
    expect(o.take(same, ["alice"])).toMatchObject({ from: "alice", thaw: "at once" });
  });

  it("are not without number", () => {
    const { offers: o } = offers();
    for (let i = 0; i < offersMax; i++) o.put("alice");
    expect(() => o.put("alice")).toThrow("offers wait already");
  });

  it("are compared as a whole", () => {
    expect(sameText("abc", "abc")).toBe(true);
    for (const other of ["abd", "ab", "abcd", "", "xbc"])
      expect(sameText("abc", other)).toBe(false);
  });
});
