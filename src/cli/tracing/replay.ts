import { closeSync, openSync, readSync } from "node:fs";
import { FerryError, messageOf } from "../../base/errors.ts";
import { print } from "../output.ts";
import { lineBytesMax, parseRecord, renderRecord } from "./trace-record.ts";

const newline = 0x0a;

/** The lines of a file one after the other, none of them longer than {@link lineBytesMax}. */
function* linesOf(fd: number, path: string): Generator<string> {
  const buffer = Buffer.alloc(lineBytesMax + 1);
  let end = 0;
  for (;;) {
    const count = readSync(fd, buffer, end, buffer.length - end, null);
    end += count;
    let start = 0;
    for (let at = buffer.indexOf(newline); at >= 0 && at < end; ) {
      yield buffer.toString("utf8", start, at);
      start = at + 1;
      at = buffer.indexOf(newline, start);
    }
    buffer.copyWithin(0, start, end);
    end -= start;
    if (end > lineBytesMax) throw new FerryError("bad-record", `${path} has a line without end.`);
    if (count > 0) continue;
    if (end > 0) yield buffer.toString("utf8", 0, end);
    return;
  }
}

/** Prints a recorded trace as it was printed when it was recorded. */
export function replay(path: string, asJson: boolean): void {
  let fd = -1;
  try {
    fd = openSync(path, "r");
    let number = 0;
    for (const line of linesOf(fd, path)) {
      number += 1;
      const record = parseRecord(line, number, path);
      if (asJson) {
        if (!print(line)) return;
      } else if (record !== null && !print(renderRecord(record))) return;
    }
    if (number === 0) throw new FerryError("bad-record", `${path} is empty.`);
  } catch (thrown) {
    if (thrown instanceof FerryError) throw thrown;
    throw new FerryError("cannot-replay", `cannot read ${path}: ${messageOf(thrown)}.`);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}
