/**
 * Ten million requests leave the server's memory flat.
 *
 *     tsx bench/soak.ts [--server COMMAND] [--requests N] [--growth MIB]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measure } from "./client.ts";
import { compile } from "./compile.ts";
import { main, OperatorError } from "./operator-error.ts";
import { residentMiB, type Server, socketFolder, startServer, stopServers } from "./servers.ts";

const defaultServer = "node dist/cli/main.js serve bench --socket-path {socket}";
const defaultRequests = 10_000_000;
const roundRequests = 250_000;
/** While compilers warm up and heaps find their size, memory may grow. */
const warmUpShare = 0.2;
/** Less than two bytes for each of the requests after the warm-up. */
const defaultGrowthMiB = 8;

interface Sample {
  readonly requests: number;
  readonly residentMiB: number;
}

/** Every round is a connection of its own, so connections that leak show as well. */
async function soak(client: string, server: Server, requests: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  const rounds = Math.max(5, Math.ceil(requests / roundRequests));
  for (let round = 1; round <= rounds; round++) {
    const operation = round % 2 === 0 ? "readpipe" : "posted4";
    const rows = await measure(client, server, ["--ops", operation, "--count", `${roundRequests}`]);
    const failed = rows.find(({ status }) => status !== "ok");
    if (failed !== undefined) throw new OperatorError(`${failed.op}: ${failed.note}`);
    const sample = { requests: round * roundRequests, residentMiB: residentMiB(server.pid) };
    samples.push(sample);
    process.stderr.write(
      `${(sample.requests / 1e6).toFixed(2)} M requests: ${sample.residentMiB.toFixed(1)} MiB\n`,
    );
  }
  return samples;
}

await main(async () => {
  const { values } = parseArgs({
    options: {
      server: { type: "string", default: defaultServer },
      requests: { type: "string", default: `${defaultRequests}` },
      growth: { type: "string", default: `${defaultGrowthMiB}` },
    },
  });
  const limitMiB = Number(values.growth);
  try {
    const client = compile("vubench");
    const server = await startServer(values.server, join(socketFolder(), "soak.sock"));
    const samples = await soak(client, server, Number(values.requests));
    const split = Math.ceil(samples.length * warmUpShare);
    const before = Math.max(...samples.slice(0, split).map((sample) => sample.residentMiB));
    const after = Math.max(...samples.slice(split).map((sample) => sample.residentMiB));
    const grownMiB = after - before;
    const flat = grownMiB <= limitMiB;
    process.stdout.write(
      `resident memory: at most ${before.toFixed(1)} MiB while warming up, at most ` +
        `${after.toFixed(1)} MiB after; growth ${grownMiB.toFixed(1)} MiB, ` +
        `allowed ${limitMiB} MiB: ${flat ? "pass" : "MISSED"}\n`,
    );
    return flat ? 0 : 1;
  } finally {
    await stopServers();
  }
});
