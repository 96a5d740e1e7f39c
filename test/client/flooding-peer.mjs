// A server that never stops talking and never answers.
import { parentPort, workerData } from "node:worker_threads";
import { Header, HeaderFlags, MessageType } from "../../dist/spec/vfio-user.js";
import { Arena } from "../../dist/sys/arena.js";
import { Channel } from "../../dist/sys/channel.js";

const channel = new Channel(workerData.fd);
const messages = 4096;
const arena = new Arena(messages * Header.size);
for (let i = 0; i < messages; i++) {
  Header.set(arena.view, i * Header.size, {
    messageId: i,
    command: 99,
    messageSize: Header.size,
    flags: MessageType.command | HeaderFlags.mask.noReply,
    error: 0,
  });
}
parentPort.postMessage("ready");
// Whole messages only at the end matter to nobody: the client leaves in the middle of one.
while (channel.send(arena.address, arena.size) > 0);
channel.close();
parentPort.postMessage("done");
