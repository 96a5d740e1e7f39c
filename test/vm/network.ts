/**
 * A network between VMs' cards (QEMU's `-netdev stream`): a switch, and a host on it that answers
 * pings. As any switch it sends to where an address has spoken last.
 */
import { createServer, type Server, type Socket } from "node:net";

/** Before each frame on such a stream. */
const lengthBytes = 4;

/** Offsets in a frame (RFC 894, 791, 792). */
const at = { target: 0, source: 6, type: 12, protocol: 23, from: 26, to: 30, icmp: 34, sum: 36 };
const ipv4 = 0x0800;
const icmp = { protocol: 1, echo: 8, reply: 0 };

export class Network {
  readonly path: string;
  readonly #server: Server;
  readonly #ports: Socket[] = [];
  /** Where each address has spoken last. */
  readonly #learned = new Map<string, Socket>();

  constructor(path: string) {
    this.path = path;
    this.#server = createServer((port) => this.#plug(port));
    this.#server.listen(path);
  }

  #plug(port: Socket): void {
    this.#ports.push(port);
    port.on("error", () => {});
    let received: Buffer = Buffer.alloc(0);
    port.on("data", (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      for (;;) {
        const end = lengthBytes + (received.length < lengthBytes ? 0 : received.readUInt32BE());
        if (received.length < end || end === lengthBytes) return;
        this.#switch(port, Buffer.from(received.subarray(lengthBytes, end)));
        received = received.subarray(end);
      }
    });
  }

  #switch(port: Socket, frame: Buffer): void {
    this.#learned.set(frame.toString("hex", at.source, at.type), port);
    const isPing = frame.readUInt16BE(at.type) === ipv4 && frame[at.protocol] === icmp.protocol;
    if (isPing && frame[at.icmp] === icmp.echo) this.#send(replyTo(frame));
  }

  #send(frame: Buffer): void {
    const length = Buffer.alloc(lengthBytes);
    length.writeUInt32BE(frame.length);
    const port = this.#learned.get(frame.toString("hex", at.target, at.source));
    port?.write(Buffer.concat([length, frame]));
  }

  close(): void {
    this.#server.close();
    for (const port of this.#ports) port.destroy();
  }
}

/** The same back; its sum, of one's complement, has less to make up for. */
function replyTo(ping: Buffer): Buffer {
  const reply = Buffer.from(ping);
  ping.copy(reply, at.target, at.source, at.type);
  ping.copy(reply, at.source, at.target, at.source);
  ping.copy(reply, at.from, at.to, at.icmp);
  ping.copy(reply, at.to, at.from, at.to);
  reply[at.icmp] = icmp.reply;
  const sum = ping.readUInt16BE(at.sum) + (icmp.echo << 8);
  reply.writeUInt16BE((sum & 0xffff) + (sum >> 16), at.sum);
  return reply;
}
