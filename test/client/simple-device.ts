/** A scripted server whose device is as small as can be. */
import type { ConnectionOptions } from "../../src/client/connection-options.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { DeviceFlags, RegionFlags } from "../../src/spec/vfio.ts";
import { Command } from "../../src/spec/vfio-user.ts";
import type { Limits } from "../../src/wire/negotiate.ts";
import { FakeServer, joined, serverLimits, words } from "./fake-server.ts";

const { read, write } = RegionFlags.mask;

/** A region info: argsz flags index capOffset, then size and offset. */
export function regionInfo(
  index: number,
  flags: number,
  size: number,
  argsz = 32,
  capOffset = 0,
): Uint8Array {
  return joined(words(4, argsz, flags, index, capOffset), words(8, size, 0x8000));
}

/** A device with one region of 4 KiB and one irq of 32 vectors; the next message id is 5. */
export function simpleDevice(
  limits: Limits = serverLimits,
  options: ConnectionOptions = {},
): [FakeServer, RemoteDevice] {
  const server = new FakeServer().agree(limits);
  server.reply(2, Command.deviceGetInfo, words(4, 16, DeviceFlags.mask.reset, 1, 1));
  server.reply(3, Command.deviceGetRegionInfo, regionInfo(0, read | write, 4096));
  server.reply(4, Command.deviceGetIrqInfo, words(4, 16, 1, 0, 32));
  const device = new RemoteDevice(server.connect(options), "simple");
  server.heard();
  return [server, device];
}
