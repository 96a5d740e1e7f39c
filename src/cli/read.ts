import type { Command } from "commander";
import { parseCount, type ServerOptions, verb, withDevice, withTimeout } from "./arguments.ts";
import { hexDump } from "./hex-dump.ts";
import { print, printJson } from "./output.ts";
import { accessesOf, accessWidths, findRegion, refused } from "./region-access.ts";

/** Bytes that one `ferry read` prints at most. */
const readBytesMax = 16 * 1024 * 1024;

interface ReadOptions extends ServerOptions {
  readonly width?: string;
}

function readRegion(
  socketPath: string,
  name: string,
  offset: number,
  length: number,
  options: ReadOptions,
): Uint8Array {
  return withDevice(socketPath, options, (device) => {
    const region = findRegion(device, name, offset, length, "readable");
    const bytes = new Uint8Array(length);
    for (const { at, count } of accessesOf(length, options.width)) {
      const result = device.read(region, offset + at, bytes, at, count);
      if (result < 0) throw refused(device, "read", name, offset + at, result);
    }
    return bytes;
  });
}

/** `ferry read`: a piece of a region. */
export function addRead(program: Command): void {
  const command = verb(
    program,
    "read <socket> <region> <offset> [length]",
    "read LENGTH bytes (4 unless told) of a region: bar0 to bar5, rom, config",
    ["read /run/hello.sock bar0 0x0", "read /run/hello.sock config 0 256 --width 4"],
  );
  withTimeout(command)
    .option("--width <bytes>", `read in accesses of ${accessWidths.join(", ")} bytes`)
    .action(
      (socket: string, region: string, offset: string, length = "4", options: ReadOptions) => {
        const from = parseCount(offset, "OFFSET");
        const count = parseCount(length, "LENGTH", readBytesMax);
        const bytes = readRegion(socket, region, from, count, options);
        if (!options.json) print(hexDump(bytes, from));
        else printJson({ region, offset: from, length: count, hex: bytesText(bytes) });
      },
    );
}

const bytesText = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
