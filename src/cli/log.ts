import { writeSync } from "node:fs";
import pino from "pino";
import { prettyFactory } from "pino-pretty";
import { POLLOUT } from "../sys/constants.ts";
import { PollSet } from "../sys/poll.ts";

export type Log = pino.Logger;

const standardError = 2;
const poll = new PollSet(1);

/** True when a line can be written without a wait: somebody reads, or there is room. */
function isWritable(): boolean {
  poll.clear();
  poll.add(standardError, POLLOUT);
  return poll.wait(0) > 0 && (poll.ready(0) & POLLOUT) !== 0;
}

/**
 * Standard error, a line at a time and at once: a process that ends must have said why. When nobody
 * reads it and it is full, lines are dropped and counted, because a log must not hold up the
 * server.
 */
class Lines {
  readonly #format: (line: string) => string;
  #lost = 0;

  constructor(format: (line: string) => string) {
    this.#format = format;
  }

  write(line: string): void {
    if (!isWritable()) {
      this.#lost += 1;
      return;
    }
    const lost = this.#lost;
    this.#lost = 0;
    if (lost > 0)
      this.#put(`${JSON.stringify({ level: 40, time: Date.now(), msg: told(lost) })}\n`);
    this.#put(line);
  }

  #put(line: string): void {
    try {
      writeSync(standardError, this.#format(line));
    } catch {
      this.#lost += 1;
    }
  }
}

const told = (lost: number): string => `${lost} lines were lost: nobody read them`;

/** The program's log on standard error: lines for people, or JSON lines. */
export function makeLog(json: boolean): Log {
  const pretty = prettyFactory({
    colorize: process.stderr.isTTY,
    ignore: "pid,hostname,name",
    translateTime: "SYS:HH:MM:ss.l",
    singleLine: true,
  });
  const format = json ? (line: string) => line : (line: string) => String(pretty(line));
  return pino({ name: "ferry" }, new Lines(format));
}
