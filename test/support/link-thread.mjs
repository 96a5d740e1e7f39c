// A link in a thread of its own, for tests whose own thread waits for what comes over it. It cuts
// or stalls when told, and can be a host that proves who it is and floods its client besides.
import { connect, createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { parentPort, workerData } from "node:worker_threads";

const { to, identity, flood } = workerData;
const sockets = new Set();
let stalled = false;
let flooding = false;

function keep(socket, other) {
  sockets.add(socket);
  socket.on("error", () => {});
  socket.on("close", () => {
    sockets.delete(socket);
    if (!stalled) other.destroy();
  });
}

function pour(socket) {
  while (flooding && !socket.destroyed && socket.write(flood));
}

function greet(near) {
  const far = connect(to);
  keep(near, far);
  keep(far, near);
  // Whole pieces of the server's go out between whole floods, as messages of one server would.
  for (const [from, onto] of [
    [near, far],
    [far, near],
  ]) {
    from.on("data", (bytes) => {
      if (!onto.write(bytes)) from.pause();
    });
    onto.on("drain", () => {
      if (!stalled) from.resume();
    });
  }
  near.on("drain", () => pour(near));
}

const options = identity === undefined ? {} : { ...identity, requestCert: true };
const server = identity === undefined ? createServer(greet) : createTlsServer(options, greet);
server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));

parentPort.on("message", (order) => {
  if (order === "cut") for (const socket of sockets) socket.destroy();
  if (order === "stall") {
    stalled = true;
    for (const socket of sockets) socket.pause();
  }
  if (order === "flood") {
    flooding = true;
    for (const socket of sockets) if (socket.encrypted) pour(socket);
  }
  if (order === "end") process.exit();
});
