// A server that talks before it listens: it sends DMA_WRITE messages of a megabyte while the client
// sends requests as large, and takes nothing before all of its own has gone.
import { parentPort, workerData } from "node:worker_threads";
import { Command, DmaAccess, Header, MessageType } from "../../dist/spec/vfio-user.js";
import { Arena } from "../../dist/sys/arena.js";
import { Channel } from "../../dist/sys/channel.js";

const { fd, twinFd, rounds, dataBytes, iova } = workerData;
const main = new Channel(fd);
const dma = twinFd < 0 ? main : new Channel(twinFd);
const arena = new Arena(dataBytes + 4096);
const dmaHeadBytes = Header.size + DmaAccess.size;

function sendAll(channel, length) {
  for (let at = 0; at < length; ) {
    const sent = channel.send(arena.address + at, length - at);
    if (sent <= 0) throw new Error(`sending gave ${sent}`);
    at += sent;
  }
}

function receive(channel, from, length) {
  for (let at = 0; at < length; ) {
    const count = channel.receive(arena.address + from + at, length - at);
    if (count <= 0) throw new Error(`receiving gave ${count}`);
    at += count;
  }
}

/** The next whole message of a socket. */
function message(channel) {
  receive(channel, 0, Header.size);
  const header = Header.get(arena.view, 0);
  receive(channel, Header.size, header.messageSize - Header.size);
  return header;
}

function header(messageId, command, messageSize, flags) {
  Header.set(arena.view, 0, { messageId, command, messageSize, flags, error: 0 });
}

function round(number) {
  header(number, Command.dmaWrite, dmaHeadBytes + dataBytes, MessageType.command);
  DmaAccess.set(arena.view, Header.size, { address: iova, count: dataBytes });
  arena.bytes.fill(number, dmaHeadBytes, dmaHeadBytes + dataBytes);
  sendAll(dma, dmaHeadBytes + dataBytes);
  let answered = false;
  for (let request = null; request === null || !answered; ) {
    const isAnswer = dma !== main && request !== null;
    const next = message(isAnswer ? dma : main);
    if ((next.flags & 0xf) === MessageType.reply) {
      if (next.messageId !== number || next.flags !== MessageType.reply) throw new Error("refused");
      answered = true;
    } else {
      request = next;
      const intact = arena.bytes[Header.size + 16] === number;
      if (!intact) throw new Error("the request is not what was sent");
      request.payload = arena.bytes.slice(Header.size, Header.size + 16);
    }
    if (request !== null && answered) {
      header(request.messageId, request.command, Header.size + 16, MessageType.reply);
      arena.bytes.set(request.payload, Header.size);
      sendAll(main, Header.size + 16);
    }
  }
}

parentPort.postMessage("ready");
try {
  for (let number = 1; number <= rounds; number++) round(number);
  parentPort.postMessage("done");
} catch (thrown) {
  main.shutdown();
  parentPort.postMessage(String(thrown));
}
main.close();
if (dma !== main) dma.close();
