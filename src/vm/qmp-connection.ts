/**
 * QMP, a VMM's control protocol: one JSON object a line, commands answered by their id, events in
 * between. What a VMM says is bounded, and believed only as far as a reader has read it.
 */
import { Socket } from "node:net";
import { errnoName } from "../base/errno.ts";
import { FerryError, messageOf } from "../base/errors.ts";
import { hostClock } from "../host/host-clock.ts";
import { within } from "../migration/hosts/clock.ts";
import * as s from "../migration/hosts/shapes.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { connectUnix } from "../sys/unix.ts";

/** The longest line that is read: a list of a large machine's devices is some hundred kilobytes. */
export const lineCharsMax = 4 * 1024 * 1024;
/** Events that are kept for whoever asks for them later. */
export const eventsMax = 1000;
/** Of a longer one what it says is not kept: those of a migration are short. */
export const eventCharsMax = 16_384;
/** How long a VMM may take to greet, or to answer a command. */
const answerMs = 10_000;
const descriptorLineBytes = 4096;
/** Whether it is found by reading or by writing. */
const closed = "has closed the connection";

/** What a VMM tells by itself. */
export interface QmpEvent {
  readonly event: string;
  readonly data: unknown;
  /** When it came, by our clock: two VMMs on two hosts have two. */
  readonly atMs: number;
}

const eventShape = s.object({
  event: s.text(100),
  data: s.optional<unknown>((value) => value, null),
});
const refusalShape = s.object({ error: s.object({ desc: s.sentence }) });
const answerShape = s.object({ id: s.whole() });
const greetingShape = s.object({
  QMP: s.object({ capabilities: s.optional(s.list(s.text(64), 64), []) }),
});

interface Waiting {
  resolve(value: unknown): void;
  reject(why: FerryError): void;
}

/** A connection on which capabilities have been negotiated. */
export class QmpConnection {
  readonly path: string;
  readonly #socket: Socket;
  readonly #channel: Channel;
  readonly #waiting = new Map<number, Waiting>();
  readonly #looks = new Set<() => void>();
  #events: QmpEvent[] = [];
  #pending = "";
  #lastId = 0;
  #closed = false;
  /** Does it take commands that overtake others, while it is busy? */
  #takesOob = false;
  /** Why there is no connection any more; null while there is one. */
  #lost: FerryError | null = null;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#channel = new Channel(fd);
    this.#socket = new Socket({ fd });
    this.#socket.setEncoding("utf8");
    this.#socket.on("data", (text: string) => this.#hear(text));
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      const hasGone = error.code === "EPIPE" || error.code === "ECONNRESET";
      this.#lose(hasGone ? closed : `cannot be used: ${error.message}`);
    });
    this.#socket.on("close", () => this.#lose(closed));
  }

  /** Connects to the monitor at `path`, which speaks to one client at a time, and greets it. */
  static async open(path: string): Promise<QmpConnection> {
    const fd = connectUnix(path);
    if (fd < 0) {
      throw new FerryError("no-qmp", `no monitor answers at ${path}: ${errnoName(fd)}.`);
    }
    const qmp = new QmpConnection(path, fd);
    const greeting = qmp.#expect(0);
    try {
      await within(hostClock, { what: `the greeting of ${path}`, budgetMs: answerMs }, greeting);
      await qmp.execute("qmp_capabilities", qmp.#takesOob ? { enable: ["oob"] } : {});
      return qmp;
    } catch (thrown) {
      qmp.close();
      const hint = "A monitor that speaks to somebody else greets nobody.";
      throw new FerryError("no-qmp", `${messageOf(thrown)} ${hint}`);
    }
  }

  #expect(id: number): Promise<unknown> {
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#lost !== null) reject(this.#lost);
      else this.#waiting.set(id, { resolve, reject });
    });
    // Whoever waits hears of it; a wait that has ended before need not.
    answer.catch(() => {});
    return answer;
  }

  #lose(why: string): void {
    this.#lost ??= new FerryError("qmp-lost", `the monitor ${this.path} ${why}.`);
    this.#socket.destroy();
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
    for (const look of this.#looks) look();
  }

  #hear(text: string): void {
    const lines = (this.#pending + text).split("\n");
    this.#pending = lines.pop() ?? "";
    if (this.#pending.length > lineCharsMax) this.#lose("says a line without end");
    for (const line of lines) if (this.#lost === null) this.#take(line);
  }

  #take(line: string): void {
    const value = s.parseJson(line);
    const event = eventShape(value);
    if (event !== undefined) {
      const data = line.length > eventCharsMax ? null : event.data;
      this.#events.push({ ...event, data, atMs: hostClock.now() });
      if (this.#events.length > eventsMax) this.#events.shift();
      for (const look of this.#looks) look();
      return;
    }
    // A greeting has no id, and is the first that comes.
    const greeting = this.#waiting.has(0) ? greetingShape(value) : undefined;
    if (greeting !== undefined) this.#takesOob = greeting.QMP.capabilities.includes("oob");
    const id = greeting !== undefined ? 0 : answerShape(value)?.id;
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (id === undefined || waiting === undefined) {
      this.#lose("says what nobody asked for; is it a QMP monitor?");
      return;
    }
    this.#waiting.delete(id);
    const refusal = refusalShape(value);
    if (refusal === undefined) waiting.resolve((value as { return?: unknown }).return);
    else waiting.reject(new FerryError("qmp-refused", refusal.error.desc));
  }

  /** Runs a command that ends the VMM, and waits until it has gone, or for `budgetMs`. */
  async lastWord(command: string, budgetMs: number): Promise<void> {
    this.execute(command).catch(() => {});
    // The wait for what never comes ends with the connection.
    await this.sees(`the end of ${this.path}`, budgetMs, () => undefined).catch(() => {});
  }

  /** Runs a command and gives what it returned; a refusal is the VMM's own sentence. */
  async execute(command: string, args: object = {}): Promise<unknown> {
    const { id, line } = this.#line(command, args);
    const answer = this.#expect(id);
    if (this.#lost === null) this.#socket.write(line);
    return await this.#answer(command, answer);
  }

  /** The same, with a descriptor that goes along; the caller keeps its own. */
  async executeWithFd(command: string, args: object, fd: number): Promise<unknown> {
    const { id, line } = this.#line(command, args);
    const answer = this.#expect(id);
    if (this.#lost === null && !this.#send(line, fd)) this.#lose("takes no descriptor");
    return await this.#answer(command, answer);
  }

  /** Everything else that was said must have left before it. */
  #send(line: string, fd: number): boolean {
    const arena = new Arena(descriptorLineBytes);
    const bytes = Buffer.from(line);
    if (this.#socket.writableLength > 0 || bytes.length > arena.size) return false;
    arena.bytes.set(bytes);
    const sent = this.#channel.sendWithFds(arena.address, bytes.length, [fd]);
    arena.free();
    return sent === bytes.length;
  }

  /**
   * Runs a command that a VMM obeys though it is busy with another one, or with itself; throws
   * when it obeys none.
   */
  async executeOutOfBand(command: string, args: object): Promise<unknown> {
    const { id, line } = this.#line(command, args, "exec-oob");
    if (!this.#takesOob)
      throw new FerryError("no-oob", `${this.path} takes one command at a time.`);
    const answer = this.#expect(id);
    if (this.#lost === null) this.#socket.write(line);
    return await this.#answer(command, answer);
  }

  #line(
    command: string,
    args: object,
    how: "execute" | "exec-oob" = "execute",
  ): { readonly id: number; readonly line: string } {
    this.#lastId += 1;
    const id = this.#lastId;
    return { id, line: `${JSON.stringify({ [how]: command, arguments: args, id })}\n` };
  }

  async #answer(command: string, answer: Promise<unknown>): Promise<unknown> {
    const what = `the answer of ${this.path} to ${command}`;
    try {
      return await within(hostClock, { what, budgetMs: answerMs }, answer);
    } catch (thrown) {
      if (!(thrown instanceof FerryError) || thrown.code !== "qmp-refused") throw thrown;
      throw new FerryError("qmp-refused", `${this.path} refused ${command}: ${thrown.message}`);
    }
  }

  /** The answer to a command, read by its shape. */
  async read<T>(shape: s.Reader<T>, command: string, args: object = {}): Promise<T> {
    const read = shape(await this.execute(command, args));
    if (read !== undefined) return read;
    throw new FerryError("bad-answer", `${this.path} answers ${command} with what makes no sense.`);
  }

  /** Runs a command of the monitor for people and gives its text. */
  async human(line: string): Promise<string> {
    const text = s.text(lineCharsMax);
    const answer = await this.execute("human-monitor-command", { "command-line": line });
    const lines = String(answer).split(/\r?\n/);
    if (typeof answer === "string" && lines.every((each) => text(each) !== undefined)) {
      return lines.join("\n");
    }
    throw new FerryError("bad-answer", `${this.path} answers ${line} with what is no text.`);
  }

  /** Forgets the events that have come so far. */
  forget(): void {
    this.#events = [];
  }

  /** Waits until `look` finds something in the events since `forget`; what it throws ends it. */
  async sees<T>(
    what: string,
    budgetMs: number,
    look: (events: readonly QmpEvent[]) => T | undefined,
    cancel?: AbortSignal,
  ): Promise<T> {
    let again = (): void => {};
    const found = new Promise<T>((resolve, reject) => {
      again = () => {
        try {
          const seen = look(this.#events);
          if (seen !== undefined) resolve(seen);
          else if (this.#lost !== null) reject(this.#lost);
        } catch (thrown) {
          reject(thrown);
        }
      };
      this.#looks.add(again);
      again();
    });
    try {
      return await within(hostClock, { what, budgetMs, cancel }, found);
    } finally {
      this.#looks.delete(again);
    }
  }

  close(): void {
    if (!this.#closed) this.#channel.free();
    this.#closed = true;
    this.#lose("was left");
  }
}
