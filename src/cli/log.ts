import pino from "pino";
import pretty from "pino-pretty";

export type Log = pino.Logger;

/**
 * The program's log on standard error: lines for people, or JSON lines. Written at once: a process
 * that ends must have said why.
 */
export function makeLog(json: boolean): Log {
  if (json) return pino({ name: "ferry" }, pino.destination({ dest: 2, sync: true }));
  const stream = pretty({
    colorize: process.stderr.isTTY,
    destination: 2,
    sync: true,
    ignore: "pid,hostname,name",
    translateTime: "SYS:HH:MM:ss.l",
    singleLine: true,
  });
  return pino({ name: "ferry" }, stream);
}
