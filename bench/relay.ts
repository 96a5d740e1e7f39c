/**
 * What a register read costs of a device on another host: through a relay, over loopback TLS,
 * beside an echo over the same kind of link in the same run. `npm run bench:relay -- 20` for more.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { performance } from "node:perf_hooks";
import { connect, type TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";
import { Connection } from "../src/client/connection.ts";
import { RemoteDevice } from "../src/client/remote-device.ts";
import { readIdentity } from "../src/host/links/tls.ts";
import { PciRegion } from "../src/spec/vfio.ts";
import { TwoHosts } from "../test/support/two-hosts.ts";
import { quantile } from "./statistics.ts";

const rounds = Number(process.argv[2] ?? 9);
const reads = 300;
/** A reply to a read of 4 bytes: header, region access, data. */
const echoBytes = 36;
/** The promise, for the median of the quotients. */
const promised = 5;

/** The median of some reads of a register, in microseconds. */
function timeReads(device: RemoteDevice): number {
  const bytes = new Uint8Array(4);
  const times = Array.from({ length: reads }, () => {
    const start = performance.now();
    device.read(PciRegion.bar0, 0, bytes, 0, 4);
    return (performance.now() - start) * 1000;
  });
  return quantile(times, 0.5);
}

async function timeEchoes(socket: TLSSocket): Promise<number> {
  const bytes = Buffer.alloc(echoBytes);
  const times: number[] = [];
  for (let i = 0; i < reads; i++) {
    const start = performance.now();
    socket.write(bytes);
    for (let came = 0; came < echoBytes; )
      came += ((await once(socket, "data")) as [Buffer])[0].length;
    times.push((performance.now() - start) * 1000);
  }
  return quantile(times, 0.5);
}

const hosts = new TwoHosts();
await hosts.prepare();
const { here } = await hosts.relayed("hello");
const own = await hosts.local("own", "hello");
const devices = [here, own].map(
  ({ socket }) => new RemoteDevice(Connection.connect(socket), "hello"),
) as [RemoteDevice, RemoteDevice];
const program = fileURLToPath(new URL("./tls-echo.mjs", import.meta.url));
const echo = spawn(process.execPath, [program, JSON.stringify(readIdentity(hosts.pkiOf("bob")))]);
const [port] = (await once(echo.stdout, "data")) as [Buffer];
const identity = readIdentity(hosts.pkiOf("alice"));
const options = { port: Number(port), host: "127.0.0.1", checkServerIdentity: () => undefined };
const socket = connect({ ...identity, ...options });
await once(socket, "secureConnect");
socket.setNoDelay(true);

const figures: Array<{ relay: number; local: number; bare: number }> = [];
for (let round = 0; round <= rounds; round++) {
  const [relay, local] = devices.map(timeReads) as [number, number];
  figures.push({ relay, local, bare: await timeEchoes(socket) });
}
figures.shift();
const median = (of: (each: (typeof figures)[number]) => number): number =>
  quantile(figures.map(of), 0.5);
console.log(`a register read here:             ${median(({ local }) => local).toFixed(0)} us`);
console.log(`a register read of another host's: ${median(({ relay }) => relay).toFixed(0)} us`);
console.log(`an echo over TLS:                  ${median(({ bare }) => bare).toFixed(0)} us`);
const ratio = median(({ relay, bare }) => relay / bare);
const kept = ratio <= promised;
console.log(`read / echo: ${ratio.toFixed(2)}   <= ${promised}  ${kept ? "pass" : "MISSED"}`);
for (const device of devices) device.close();
socket.destroy();
echo.kill();
await hosts.end();
process.exitCode = kept ? 0 : 1;
