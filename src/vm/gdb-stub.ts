/**
 * The remote protocol of a debugger, as far as memory is read and written with it: a VMM's stub
 * that shows physical memory is the one way to configuration space that every machine has.
 */
import type { Socket } from "node:net";
import { FerryError } from "../base/errors.ts";
import { hostClock } from "../host/host-clock.ts";
import { within } from "../migration/hosts/clock.ts";

/** The longest packet that is read. */
export const packetBytesMax = 4096;
/** How long a stub may take to answer all that it was asked at once. */
const answerMs = 5000;

/** A value in memory, written or read by one access of its width. */
export interface Access {
  readonly at: number;
  readonly size: 1 | 2 | 4;
}
export interface Write extends Access {
  readonly value: number;
}

const checksum = (text: string): string =>
  ([...Buffer.from(text, "latin1")].reduce((sum, byte) => sum + byte, 0) & 0xff)
    .toString(16)
    .padStart(2, "0");

/** A packet as it goes over the wire. */
export const packet = (text: string): string => `$${text}#${checksum(text)}`;

const littleEndian = (value: number, size: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString("hex", 0, size);
};

/** A packet that is whole, and what is left behind it. */
const whole = /^[^$]*\$([^#]*)#([0-9a-f]{2})/i;
/** What a stub tells by itself: that the machine has stopped. */
const stopped = /^[STWX]/;

export class GdbStub {
  readonly #socket: Socket;
  #pending = "";
  #replies: string[] = [];
  #lost: FerryError | null = null;
  #heard: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#hear(text));
    socket.on("error", (error) => this.#lose(`cannot be used: ${error.message}`));
    socket.on("close", () => this.#lose("has closed the connection"));
  }

  #lose(why: string): void {
    this.#lost ??= new FerryError("gdb-lost", `the VMM's debugger stub ${why}.`);
    this.#socket.destroy();
    this.#heard();
  }

  #hear(text: string): void {
    this.#pending += text;
    for (;;) {
      const [all, body, sum] = whole.exec(this.#pending) ?? [];
      if (all === undefined || body === undefined) break;
      this.#pending = this.#pending.slice(all.length);
      if (checksum(body) !== sum?.toLowerCase()) this.#lose("garbles what it says");
      this.#socket.write("+");
      if (!stopped.test(body)) this.#replies.push(body);
    }
    if (this.#pending.length > packetBytesMax) this.#lose("says a packet without end");
    this.#heard();
  }

  /** Sends packets in one piece and gives as many replies: one round trip of ours for all. */
  async #ask(packets: readonly string[]): Promise<readonly string[]> {
    this.#replies = [];
    const answered = new Promise<readonly string[]>((resolve, reject) => {
      this.#heard = () => {
        if (this.#replies.length >= packets.length) resolve(this.#replies);
        else if (this.#lost !== null) reject(this.#lost);
      };
      this.#heard();
    });
    this.#socket.write(packets.map(packet).join(""));
    const what = "the answer of the VMM's debugger stub";
    return await within(hostClock, { what, budgetMs: answerMs }, answered);
  }

  /** From here on addresses are physical ones. */
  async usePhysicalMemory(): Promise<void> {
    const [reply] = await this.#ask(["Qqemu.PhyMemMode:1"]);
    if (reply === "OK") return;
    throw new FerryError("gdb-refused", "the VMM's debugger stub shows no physical memory.");
  }

  /** Writes values in their order. */
  async write(writes: readonly Write[]): Promise<void> {
    const packets = writes.map(
      ({ at, size, value }) => `M${at.toString(16)},${size}:${littleEndian(value, size)}`,
    );
    const replies = await this.#ask(packets);
    const wrong = replies.findIndex((reply) => reply !== "OK");
    if (wrong >= 0) throw refused("write", writes[wrong], replies[wrong]);
  }

  /** Reads values. */
  async read(accesses: readonly Access[]): Promise<number[]> {
    const packets = accesses.map(({ at, size }) => `m${at.toString(16)},${size}`);
    const replies = await this.#ask(packets);
    return accesses.map((access, index) => {
      const reply = replies[index] ?? "";
      const bytes = Buffer.from(reply, "hex");
      if (reply.length !== 2 * access.size || bytes.length !== access.size) {
        throw refused("read", access, reply);
      }
      return bytes.readUIntLE(0, access.size);
    });
  }

  /**
   * Hangs up without a word: a debugger that takes its leave sets the machine going.
   */
  close(): void {
    this.#lose("was left");
  }
}

function refused(what: string, access: Access | undefined, reply: string | undefined): FerryError {
  const at = `0x${(access?.at ?? 0).toString(16)}`;
  const said = JSON.stringify((reply ?? "").slice(0, 40));
  return new FerryError("gdb-refused", `the VMM's debugger stub did not ${what} ${at}: ${said}.`);
}
