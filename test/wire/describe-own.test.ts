/** Messages that are this project's own, as `ferry trace` shows them. */
import { expect, it } from "vitest";
import { DeviceFeature, FeatureFlags, PciIrq } from "../../src/spec/vfio.ts";
import {
  Command,
  Header,
  HeaderFlags,
  Interrupt,
  MessageType,
  OwnCommand,
  OwnFeature,
} from "../../src/spec/vfio-user.ts";
import { describeMessage } from "../../src/wire/describe.ts";

function message(command: number, flags: number, ...body: readonly Uint8Array[]): Uint8Array {
  const payload = Buffer.concat(body);
  const bytes = new Uint8Array(Header.size + payload.length);
  const messageSize = bytes.length;
  Header.set(new DataView(bytes.buffer), 0, {
    messageId: 0,
    command,
    messageSize,
    flags,
    error: 0,
  });
  bytes.set(payload, Header.size);
  return bytes;
}

it("an interrupt has a word for each vector", () => {
  const entries = new Uint8Array(2 * Interrupt.size);
  const view = new DataView(entries.buffer);
  Interrupt.set(view, 0, { index: PciIrq.msix, vector: 0, count: 1 });
  Interrupt.set(view, Interrupt.size, { index: PciIrq.msi, vector: 31, count: 40 });
  const told = message(OwnCommand.interrupt, HeaderFlags.mask.noReply, entries, Uint8Array.of(7));
  expect(describeMessage("←", told, 0)).toBe(
    "← INTERRUPT #0 no-reply { index=msix vector=0 count=1 } " +
      "{ index=msi vector=31 count=40 } more=07",
  );
});

it("what a stream says first of itself is text", () => {
  const head = new Uint8Array(DeviceFeature.size);
  const flags = FeatureFlags.mask.get | OwnFeature.compatibility;
  DeviceFeature.set(new DataView(head.buffer), 0, { argsz: 64, flags });
  const text = new TextEncoder().encode('{"version":1}');
  const told = message(Command.deviceFeature, MessageType.reply, head, text);
  expect(describeMessage("←", told, 0)).toBe(
    '← DEVICE_FEATURE #0 ok argsz=64 get feature=compatibility {"version":1}',
  );
});
