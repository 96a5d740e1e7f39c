import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, createServer } from "node:tls";
import { pkiFiles } from "../../src/host/links/tls.ts";
import type { Hosts } from "./hosts.ts";

const read = (folder: string) => ({
  ca: readFileSync(join(folder, pkiFiles.ca)),
  cert: readFileSync(join(folder, pkiFiles.cert)),
  key: readFileSync(join(folder, pkiFiles.key)),
});

/** Round trips of one byte over a link that does nothing else, in milliseconds. */
export async function echoOverTls({ plans }: Hosts, times: number): Promise<number[]> {
  const [alice, bob] = plans.map(({ pki }) => read(pki));
  const server = createServer({ ...bob, requestCert: true, minVersion: "TLSv1.3" }, (socket) => {
    socket.setNoDelay();
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { readonly port: number };
  const socket = connect({ ...alice, host: "127.0.0.1", port, servername: plans[1]?.name ?? "" });
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  socket.setNoDelay();
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const begun = performance.now();
    const back = new Promise((resolve) => socket.once("data", resolve));
    socket.write("x");
    await back;
    taken.push(performance.now() - begun);
  }
  socket.destroy();
  server.close();
  return taken;
}
