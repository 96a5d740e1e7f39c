/**
 * Many connected devices in one process cost little memory each.
 *
 *     tsx bench/many.ts [--server COMMAND] [--devices N]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { compile } from "./compile.ts";
import { main, OperatorError } from "./operator-error.ts";
import { residentMiB, socketFolder, startServer, stopServers } from "./servers.ts";

const defaultServer =
  "node dist/cli/main.js serve bench --socket-path {socket} --count {devices} --set stateMiB=1";
const defaultDevices = 64;
const promisedMiB = 15;
/** Enough for every worker to have compiled its hot path. */
const readsEach = 2_000;
const settleMs = 1_000;
const connectLimitMs = 20_000;

/** A client that reads some registers and then stays connected until its standard input ends. */
async function connect(client: string, socketPath: string): Promise<ChildProcess> {
  const args = ["--sock", socketPath, "--json", "--count", `${readsEach}`, "--ops", "read4,hold"];
  const child = spawn(client, args, { stdio: ["pipe", "pipe", "ignore"] });
  const row = new Promise<string>((resolve) => {
    child.stdout.once("data", (text: Buffer) => resolve(text.toString()));
    child.once("exit", () => resolve("the client ended"));
  });
  const late = new AbortController();
  const answer = await Promise.race([
    row,
    sleep(connectLimitMs, "no answer in time", { signal: late.signal }),
  ]);
  late.abort();
  if (!answer.includes('"status":"ok"')) {
    child.kill();
    throw new OperatorError(`${socketPath}: ${answer}`);
  }
  return child;
}

await main(async () => {
  const { values } = parseArgs({
    options: {
      server: { type: "string", default: defaultServer },
      devices: { type: "string", default: `${defaultDevices}` },
    },
  });
  const devices = Number(values.devices);
  const clients: ChildProcess[] = [];
  try {
    const client = compile("vubench");
    const folder = socketFolder();
    const sockets = () => readdirSync(folder).filter((name) => name.endsWith(".sock"));
    const command = values.server.replaceAll("{devices}", `${devices}`);
    const server = await startServer(command, join(folder, "dev-{n}.sock"), {
      isReady: () => sockets().length >= devices,
    });
    const idleMiB = residentMiB(server.pid);
    for (const name of sockets()) clients.push(await connect(client, join(folder, name)));
    await sleep(settleMs);
    const totalMiB = residentMiB(server.pid);
    const eachMiB = totalMiB / devices;
    const kept = eachMiB <= promisedMiB;
    process.stdout.write(
      `${clients.length} devices connected: ${totalMiB.toFixed(0)} MiB resident ` +
        `(${idleMiB.toFixed(0)} MiB before the clients came), ${eachMiB.toFixed(1)} MiB each, ` +
        `promised ${promisedMiB} MiB: ${kept ? "pass" : "MISSED"}\n`,
    );
    return kept ? 0 : 1;
  } finally {
    for (const client of clients) client.stdin?.end();
    await stopServers();
  }
});
