// Sends back what it is sent, over mutual TLS: what a link costs by itself.
import { createServer } from "node:tls";

const identity = JSON.parse(process.argv[2]);
const server = createServer({ ...identity, requestCert: true }, (socket) => {
  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.on("data", (bytes) => socket.write(bytes));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
