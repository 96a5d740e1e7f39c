// Blocks in recvmsg on a thread of its own, and tells each result as it comes.
import { parentPort, workerData } from "node:worker_threads";
import { Arena } from "../../dist/sys/arena.js";
import { Channel } from "../../dist/sys/channel.js";
import { threadId } from "../../dist/sys/signal.js";

const arena = new Arena(4096);
const channel = new Channel(workerData.fd);
parentPort.postMessage({ thread: threadId() });
for (;;) {
  const result = channel.receive(arena.address, 100);
  parentPort.postMessage({ result, byte: arena.bytes[0] });
  if (result === 0) break;
}
