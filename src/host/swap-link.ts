/**
 * The way between the two sides of a swap: a unix socket that carries a device's state and
 * whatever hangs on its client. It also decides. Its target says `own` before it serves anybody,
 * and a source that has waited for long enough shuts its receiving side: the kernel lets the word
 * either in before, and then it is there to be read, or not in at all, and then its sender knows.
 */
import { performance } from "node:perf_hooks";
import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT, POLLIN, SHUT_RD } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { shutdown } from "../sys/libc.ts";
import { PollSet } from "../sys/poll.ts";
import { WholeSender } from "../sys/whole-sender.ts";
import { handoverBytesMax, handoverFdsMax } from "./handover.ts";

/** What is said, by whom, and the longest body. */
const words = {
  /** Source: the next bytes of the device's state, and that there are no more. */
  data: { type: 1, bytesMax: 1_048_576 },
  end: { type: 2, bytesMax: 0 },
  /** Source: the client, with its descriptors. */
  client: { type: 3, bytesMax: handoverBytesMax },
  /** Target: the state is loaded, and the device with its client is its own. */
  own: { type: 4, bytesMax: 0 },
} as const;
export type SwapWord = keyof typeof words;

/** The most that one `data` carries. */
export const swapDataBytesMax = words.data.bytesMax;

/** A word as it came; the descriptors are the receiver's. */
interface Heard {
  readonly word: SwapWord;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly fds: readonly number[];
}

/** type, body's length, number of descriptors: u32 each. */
const headBytes = 12;
const pieceBytes = 1_048_576;
const nothing = new Uint8Array(0);

type Bytes = Uint8Array<ArrayBuffer>;

/** One end of such a socket. Every wait has an end, and none of them blocks the thread. */
export class SwapLink {
  readonly #channel: Channel;
  readonly #sender: WholeSender;
  readonly #out = new Arena(pieceBytes);
  readonly #in = new Arena(pieceBytes);
  readonly #inPoll = new PollSet(1);
  #sending: Promise<unknown> = Promise.resolve();
  #open = true;
  /** Calls that are in the middle of something; the descriptor is closed behind the last. */
  #users = 0;

  constructor(fd: number) {
    this.#channel = new Channel(fd);
    this.#sender = new WholeSender(this.#channel);
  }

  async #use<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#open) throw lost("this side has closed it");
    this.#users += 1;
    try {
      return await work();
    } finally {
      this.#users -= 1;
      this.#free();
    }
  }

  /** Ends it: whoever waits in it is told. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#channel.shutdown();
    this.#free();
  }

  #free(): void {
    if (this.#open || this.#users > 0 || this.#channel.fd < 0) return;
    this.#channel.close();
    this.#channel.fd = -1;
    for (const each of [this.#sender, this.#out, this.#in, this.#inPoll]) each.free();
  }

  /** Says a word after those before it; done when all of it is on its way, or `endMs` is there. */
  async send(word: SwapWord, body: Uint8Array, endMs: number, fds: number[] = []): Promise<void> {
    const sent = this.#sending.then(() => this.#use(() => this.#put(word, body, endMs, fds)));
    this.#sending = sent.catch(() => {});
    await sent;
  }

  async #put(word: SwapWord, body: Uint8Array, endMs: number, fds: number[]): Promise<void> {
    this.#head(word, body.length, fds.length);
    const { address, bytes } = this.#out;
    expectSent(await this.#sender.send(address, headBytes, endMs));
    expectSent(await this.#sender.sendFds(address, fds, endMs));
    for (let at = 0; at < body.length; at += pieceBytes) {
      const piece = body.subarray(at, at + pieceBytes);
      bytes.set(piece);
      expectSent(await this.#sender.send(address, piece.length, endMs));
    }
  }

  #head(word: SwapWord, length: number, fds: number): void {
    const { view } = this.#out;
    for (const [i, value] of [words[word].type, length, fds].entries()) {
      view.setUint32(4 * i, value, true);
    }
  }

  /** Says a short word now, whole or not at all: true when it is in the other side's queue. */
  sayNow(word: SwapWord): boolean {
    if (!this.#open) return false;
    this.#head(word, 0, 0);
    return this.#channel.send(this.#out.address, headBytes, MSG_DONTWAIT) === headBytes;
  }

  /** The next word, which must be one of these; a FerryError when it does not come by `endMs`. */
  async receive(expected: readonly SwapWord[], endMs: number): Promise<Heard> {
    return await this.#use(async () => {
      const head = await this.#take(headBytes, endMs);
      return await this.#hear(head, expected, endMs);
    });
  }

  async #hear(head: Bytes, expected: readonly SwapWord[], endMs: number): Promise<Heard> {
    const view = new DataView(head.buffer);
    const [type, length, fdCount] = [0, 4, 8].map((at) => view.getUint32(at, true)) as Head;
    const word = expected.find((each) => words[each].type === type);
    const fdsMax = word === "client" ? handoverFdsMax : 0;
    if (word === undefined || length > words[word].bytesMax || fdCount > fdsMax) {
      throw lost("the other side said what makes no sense");
    }
    const fds: number[] = [];
    try {
      while (fds.length < fdCount) fds.push(...(await this.#takeFds(fdCount - fds.length, endMs)));
      return { word, body: await this.#take(length, endMs), fds };
    } catch (thrown) {
      for (const fd of fds) closeFd(fd);
      throw thrown;
    }
  }

  /** Reads what is there into the arena; descriptors stay in the channel. */
  async #pull(length: number, endMs: number): Promise<number> {
    for (;;) {
      const received = this.#channel.receive(this.#in.address, length, MSG_DONTWAIT);
      if (received > 0) return received;
      if (received === 0) throw lost("the other side has ended it");
      if (received === -errno.EAGAIN) await readable(this.#channel.fd, this.#inPoll, endMs);
      else if (received !== -errno.EINTR) throw lost(errnoName(received));
    }
  }

  async #take(length: number, endMs: number): Promise<Bytes> {
    const bytes = length === 0 ? nothing : new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const received = await this.#pull(Math.min(pieceBytes, length - done), endMs);
      this.#channel.closeReceived();
      bytes.set(this.#in.bytes.subarray(0, received), done);
      done += received;
    }
    return bytes;
  }

  async #takeFds(most: number, endMs: number): Promise<number[]> {
    await this.#pull(1, endMs);
    const { receivedFds, receivedFdCount: count, truncated } = this.#channel;
    if (!truncated && count > 0 && count <= most) return Array.from(receivedFds.subarray(0, count));
    this.#channel.closeReceived();
    throw lost("descriptors did not come along");
  }

  /** The source waits no longer: true when `own` was said all the same. */
  concede(): boolean {
    if (!this.#open) return false;
    shutdown(this.#channel.fd, SHUT_RD);
    const received = this.#channel.receive(this.#in.address, headBytes, MSG_DONTWAIT);
    this.#channel.closeReceived();
    return received === headBytes && this.#in.view.getUint32(0, true) === words.own.type;
  }
}

type Head = [type: number, length: number, fdCount: number];

const lost = (why: string): FerryError =>
  new FerryError("link-lost", `the link between the two servers is lost: ${why}.`);

const tooLate = (): FerryError =>
  new FerryError("too-late", "the other server did not answer in time.");

function expectSent(result: number): void {
  if (result < 0) throw result === -errno.ETIMEDOUT ? tooLate() : lost(errnoName(result));
}

async function readable(fd: number, poll: PollSet, endMs: number): Promise<void> {
  const leftMs = Math.ceil(endMs - performance.now());
  poll.clear();
  poll.add(fd, POLLIN);
  if (leftMs <= 0 || (await poll.waitAsync(leftMs)) === 0) throw tooLate();
}
