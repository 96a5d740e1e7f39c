// Stands between a client and a server and makes one kind of mistake in the server's messages.
// Plain JavaScript, because a thread cannot be started from TypeScript.
import net from "node:net";
import { parentPort, workerData } from "node:worker_threads";

const { path, serverPath, fault } = workerData;
const headerBytes = 16;
const version = 1;
const regionRead = 9;
const noReply = 0x10;
const errorFlag = 0x20;

/** Calls `each` with every whole message of a stream. */
function messages(socket, each) {
  let pending = Buffer.alloc(0);
  socket.on("data", (data) => {
    pending = Buffer.concat([pending, data]);
    while (pending.length >= headerBytes) {
      const size = Math.max(headerBytes, pending.readUInt32LE(4));
      if (pending.length < size) return;
      each(Buffer.from(pending.subarray(0, size)));
      pending = pending.subarray(size);
    }
  });
}

function resized(message, size) {
  const changed = Buffer.alloc(size);
  message.copy(changed);
  changed.writeUInt32LE(size, 4);
  return changed;
}

const isError = (message) => (message.readUInt32LE(8) & errorFlag) !== 0;
const header = (message, at, value) => {
  message.writeUInt32LE(value, at);
  return message;
};
let held = null;

/** What the client gets for a message of the server. */
const faults = {
  none: (message) => [message],
  "wrong-id": (message) => [message.fill(message.readUInt16LE(0) ^ 1, 0, 1)],
  "wrong-command": (message) => [message.fill(message[2] + 1, 2, 3)],
  "wrong-type": (message) => [header(message, 8, 0)],
  "error-with-payload": (message) => [isError(message) ? resized(message, 32) : message],
  "errors-swallowed": (message) => [
    isError(message) ? header(header(message, 8, 1), 12, 0) : message,
  ],
  "errors-changed": (message) => [isError(message) ? header(message, 12, 5) : message],
  "error-field-set": (message) => [isError(message) ? message : header(message, 12, 22)],
  "replies-to-all": (message) => [message],
  reordered(message) {
    if (held === null) {
      held = message;
      return [];
    }
    const both = [message, held];
    held = null;
    return both;
  },
  "data-cut": (message) =>
    message.readUInt16LE(2) === regionRead && !isError(message)
      ? [resized(message, message.length - 1)]
      : [message],
  "data-changed": (message) =>
    message.readUInt16LE(2) === regionRead ? [message.fill(0x99, message.length - 1)] : [message],
  silent: () => [],
};

net
  .createServer((client) => {
    const server = net.connect(serverPath);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ]) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    messages(client, (message) => {
      if (fault === "replies-to-all") message.writeUInt32LE(message.readUInt32LE(8) & ~noReply, 8);
      server.write(message);
    });
    messages(server, (message) => {
      const isVersion = message.readUInt16LE(2) === version;
      for (const each of isVersion ? [message] : faults[fault](message)) client.write(each);
    });
  })
  .listen(path, () => parentPort.postMessage("listening"));
