import type { Command } from "commander";
import { dialFar } from "../host/links/far.ts";
import { verb } from "./arguments.ts";
import { ExitCode } from "./output.ts";
import { type ServeOptions, serve } from "./serve.ts";

interface RelayOptions extends Pick<ServeOptions, "control" | "journal" | "json" | "peer"> {
  readonly socketPath: string;
  readonly pki: string;
}

async function relay(address: string, options: RelayOptions): Promise<void> {
  const { peer: named, ...own } = options;
  const far = await dialFar({ address, pki: options.pki, peer: named });
  const serving = await serve(undefined, { ...own, count: 1, set: {} }, far);
  const why = await far.lost;
  serving.log.error({ peer: far.peer, why }, "the link is lost, and the device has failed");
  await serving.free();
  serving.end(ExitCode.failed);
}

const notes = `
The other host serves the device with ferry serve … --remote, to this host and nobody else. A VMM is
given --socket-path as that of any server; ferry swap moves a VMM's device here and away again.
When the link is lost the device has failed: reads answer all ones, and the VMM is told by the ERR
interrupt. The relay ends with 1 as soon as its VMM has gone.`;

/** `ferry relay`: a device of another host's, at a socket of this one. */
export function addRelay(program: Command): void {
  verb(
    program,
    "relay <address>",
    "offer a device that another host serves at a socket of this host",
    [
      "relay tls://bob:7200 --socket-path /run/zip.sock --pki /etc/ferry/alice",
      "relay tls://192.0.2.7:7200 --peer bob --socket-path /run/zip.sock --pki /etc/ferry/alice",
    ],
  )
    .requiredOption("--socket-path <path>", "listen here")
    .requiredOption("--pki <folder>", "this host's certificate, as ferry pki makes it")
    .option("--peer <name>", "the other host's name, if it is not the host of the address")
    .option("--control <path>", "control socket (default: the socket path with .ctl)")
    .option("--no-control", "no control socket")
    .option("--journal <folder>", "where migrations write their decisions (default: there too)")
    .addHelpText("after", notes)
    .action(relay);
}
