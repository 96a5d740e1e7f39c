/** What `read` and `write` have in common: regions by name, accesses of a width. */
import { errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { regionByName, regionName } from "../device/description.ts";
import type { VfioDevice } from "../device/vfio-device.ts";

/** Bytes of one access. */
export const accessWidths = [1, 2, 4, 8] as const;

/** The width that somebody asked for. */
export function widthOf(text: string): number {
  const width = accessWidths.find((each) => String(each) === text);
  if (width !== undefined) return width;
  const known = accessWidths.join(", ");
  throw new FerryError("bad-argument", `--width ${JSON.stringify(text)} is none of ${known}.`);
}

/** One access of a longer range: `count` bytes at `at` of it. */
export interface Access {
  readonly at: number;
  readonly count: number;
}

/** Cuts a range into accesses of a width; without a width it is one access. */
export function accessesOf(length: number, widthText: string | undefined): Access[] {
  if (widthText === undefined) return length === 0 ? [] : [{ at: 0, count: length }];
  const width = widthOf(widthText);
  const pieces = Math.ceil(length / width);
  return Array.from({ length: pieces }, (_, i) => ({
    at: i * width,
    count: Math.min(width, length - i * width),
  }));
}

/** The region of that name, when it allows the access and the range lies in it. */
export function findRegion(
  device: VfioDevice,
  name: string,
  offset: number,
  length: number,
  right: "readable" | "writable",
): number {
  const index = regionByName(device, name);
  const region = device.regions[index];
  if (region === undefined) {
    const there = device.regions.flatMap(({ size }, i) => (size > 0 ? [regionName(i)] : []));
    const message = `${device.name} has no region ${name}; it has ${there.join(", ")}.`;
    throw new FerryError("unknown-region", message);
  }
  if (!region[right]) {
    throw new FerryError("bad-argument", `${name} of ${device.name} is not ${right}.`);
  }
  if (offset + length > region.size) {
    throw new FerryError(
      "bad-argument",
      `${length} bytes at 0x${offset.toString(16)} end behind ${name}, which has ${region.size}.`,
    );
  }
  return index;
}

/** What the server answered to an access. */
export function refused(
  device: VfioDevice,
  what: string,
  region: string,
  offset: number,
  result: number,
): FerryError {
  const place = `${region}+0x${offset.toString(16)}`;
  const message = `${device.name} answered the ${what} at ${place} with ${errnoName(result)}.`;
  return new FerryError("access-refused", message);
}
