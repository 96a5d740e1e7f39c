import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { verb } from "./arguments.ts";
import { replay } from "./tracing/replay.ts";
import { Tap } from "./tracing/tap.ts";
import { TraceLog } from "./tracing/trace-log.ts";

interface TraceOptions {
  readonly json?: boolean;
  readonly record?: string;
  readonly replay?: string;
  readonly once?: boolean;
}

async function trace(
  listenPath: string,
  connectPath: string,
  options: TraceOptions,
): Promise<void> {
  const log = new TraceLog(options.json === true, options.record ?? null);
  const tap = new Tap(listenPath, connectPath, log);
  const stop = (): void => tap.stop();
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    log.flush();
    await tap.run(options.once === true);
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
    tap.close();
    log.close();
  }
  process.stderr.write(`ferry: ${log.messages} messages of ${tap.count} connections\n`);
}

const notes = `
LISTEN is where the VMM connects, CONNECT is the server's socket. Messages and descriptors pass
unchanged, with one exception: the twin socket that a server gives is replaced by one of our own, so
that the DMA messages on it are seen as well. SIGINT or SIGTERM ends it.

A line is: seconds, connection, way (→ to the server, ← to the client), message.
A record is one JSON object a line:
{"t": microseconds, "session", "socket", "to", "size", "fds", "head": base64}.`;

/** `ferry trace`: what a VMM and a server say to each other. */
export function addTrace(program: Command): void {
  verb(
    program,
    "trace [listen] [connect]",
    "stand between a VMM and a server and print every message",
    [
      "trace /tmp/vmm.sock /run/hello.sock",
      "trace /tmp/vmm.sock /run/hello.sock --record session.jsonl",
      "trace --replay session.jsonl",
    ],
  )
    .option("--record <file>", "also write what was seen to a file")
    .option("--replay <file>", "print a recorded file instead of tracing")
    .option("--once", "end when the first client has gone")
    .addHelpText("after", notes)
    .action(async (listen: string | undefined, connect: string | undefined, options) => {
      if (options.replay !== undefined) {
        replay(options.replay, options.json === true);
      } else if (listen === undefined || connect === undefined) {
        throw new FerryError("usage", "say where to listen and where the server is, or --replay.");
      } else {
        await trace(listen, connect, options);
      }
    });
}
