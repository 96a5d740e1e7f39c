import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { parseCount, type ServerOptions, verb, withDevice, withTimeout } from "./arguments.ts";
import { print, printJson } from "./output.ts";
import { accessWidths, findRegion, refused, widthOf } from "./region-access.ts";

/** What a write is wide unless `--width` says otherwise: a register. */
const defaultWidth = "4";

interface WriteOptions extends ServerOptions {
  readonly width: string;
}

/** A value of `width` bytes, little-endian. */
function parseValue(text: string, width: number): Uint8Array {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : -1n;
  if (value < 0n || value >= 1n << BigInt(width * 8)) {
    throw new FerryError(
      "bad-argument",
      `VALUE ${JSON.stringify(text)} is no number of ${width} bytes. Give another --width.`,
    );
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes.subarray(0, width);
}

function writeRegion(
  socketPath: string,
  name: string,
  offset: number,
  values: readonly Uint8Array[],
  options: WriteOptions,
): void {
  const width = widthOf(options.width);
  withDevice(socketPath, options, (device) => {
    const region = findRegion(device, name, offset, width * values.length, "writable");
    for (const [i, value] of values.entries()) {
      const place = offset + i * width;
      const result = device.write(region, place, value, 0, width);
      if (result < 0) throw refused(device, "write", name, place, result);
    }
  });
}

/** `ferry write`: values to a region, one access each. */
export function addWrite(program: Command): void {
  const command = verb(
    program,
    "write <socket> <region> <offset> <values...>",
    "write values to a region one after the other, one access each",
    [
      "write /run/hello.sock bar0 0x8 1",
      "write /run/hello.sock config 0x4 0x0406 --width 2",
      "write /run/hello.sock bar2 0 0x11 0x22 0x33 --width 1",
    ],
  );
  withTimeout(command)
    .option("--width <bytes>", `bytes of a value: ${accessWidths.join(", ")}`, defaultWidth)
    .action(
      (socket: string, region: string, offset: string, texts: string[], options: WriteOptions) => {
        const width = widthOf(options.width);
        const from = parseCount(offset, "OFFSET");
        const values = texts.map((text) => parseValue(text, width));
        writeRegion(socket, region, from, values, options);
        const summary = { region, offset: from, width, written: values.length };
        if (options.json) printJson(summary);
        else print(`${values.length} × ${width} bytes written to ${region}+0x${from.toString(16)}`);
      },
    );
}
