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
/** An access and what is written by it. */
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

/** A stub that answers; packets go out together and their replies come in order. */
export class GdbStub {
  readonly #socket: Socket;
  readonly #limitMs: number;
  #pending = "";
  #replies: string[] = [];
  /** How many replies there will be. */
  #wanted = 0;
  #lost: FerryError | null = null;
  #heard: () => void = () => {};

  /** `limitMs` is for all answers to what was asked at once. */
  constructor(socket: Socket, limitMs = answerMs) {
    this.#socket = socket;
    this.#limitMs = limitMs;
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
      if (!stopped.test(body)) this.#keep(body);
    }
    if (this.#pending.length > packetBytesMax) this.#lose("says a packet without end");
    this.#heard();
  }

  #keep(reply: string): void {
    if (this.#replies.length < this.#wanted) this.#replies.push(reply);
    else this.#lose("says what nobody asked for");
  }

  /**
   * Sends packets in one piece and gives as many replies: one round trip of ours for all. Each
   * packet stands for the receipt of the reply before it; the last reply gets one. A stub that is
   * late is not asked again: its answers would be taken for those to something else.
   */
  async #ask(packets: readonly string[], begun = () => {}): Promise<readonly string[]> {
    this.#replies = [];
    this.#wanted = packets.length;
    const answered = new Promise<readonly string[]>((resolve, reject) => {
      this.#heard = () => {
        if (this.#replies.length > 0) begun();
        if (this.#replies.length >= packets.length) resolve(this.#replies);
        else if (this.#lost !== null) reject(this.#lost);
      };
      this.#heard();
    });
    this.#socket.write(packets.map(packet).join(""));
    const what = "the answer of the VMM's debugger stub";
    try {
      const replies = await within(hostClock, { what, budgetMs: this.#limitMs }, answered);
      this.#socket.write("+");
      return replies;
    } catch (thrown) {
      this.#lose("was late");
      throw thrown;
    }
  }

  /** From here on addresses are physical ones. */
  async usePhysicalMemory(): Promise<void> {
    const [reply] = await this.#ask(["Qqemu.PhyMemMode:1"]);
    if (reply === "OK") return;
    throw new FerryError("gdb-refused", "the VMM's debugger stub shows no physical memory.");
  }

  /**
   * Writes and reads in their order, asked for all at once; gives the values that were read.
   * `begun` hears that the first is done, perhaps more than once.
   */
  async run(accesses: ReadonlyArray<Access | Write>, begun?: () => void): Promise<number[]> {
    const replies = await this.#ask(accesses.map(packetOf), begun);
    return accesses.flatMap((access, index) => {
      const reply = replies[index] ?? "";
      if (!isWrite(access)) return [readValue(access, reply)];
      if (reply !== "OK") throw refused("write", access, reply);
      return [];
    });
  }

  /**
   * Hangs up without a word: a debugger that takes its leave sets the machine going.
   */
  close(): void {
    this.#lose("was left");
  }
}

const isWrite = (access: Access | Write): access is Write => "value" in access;

function packetOf(access: Access | Write): string {
  const { at, size } = access;
  const place = `${at.toString(16)},${size}`;
  return isWrite(access) ? `M${place}:${littleEndian(access.value, size)}` : `m${place}`;
}

function readValue(access: Access, reply: string): number {
  const bytes = Buffer.from(reply, "hex");
  const { size } = access;
  if (reply.length === 2 * size && bytes.length === size) return bytes.readUIntLE(0, size);
  throw refused("read", access, reply);
}

function refused(what: string, { at: address }: Access, reply: string): FerryError {
  const at = `0x${address.toString(16)}`;
  const said = JSON.stringify(reply.slice(0, 40));
  return new FerryError("gdb-refused", `the VMM's debugger stub did not ${what} ${at}: ${said}.`);
}
