/**
 * A QEMU as far as a migration speaks to it: a monitor that says what it is told to say, and behind
 * a descriptor that comes over it, a debugger's stub. The descriptors are why it polls its socket:
 * Node's own sockets lose them.
 */
import { Socket } from "node:net";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT } from "../../src/sys/constants.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { acceptUnix, listenUnix } from "../../src/sys/unix.ts";
import { packet } from "../../src/vm/gdb-stub.ts";

/** A refusal, as QMP has it. */
export class Refusal {
  readonly desc: string;

  constructor(desc: string) {
    this.desc = desc;
  }
}

/** Says nothing, ever. */
export const silence = Symbol("silence");

type Command = (args: Record<string, unknown>) => unknown;

export class FakeMonitor {
  readonly path: string;
  /** Answers by command. */
  readonly commands: Record<string, Command> = { qmp_capabilities: () => ({}) };
  /** What it says at first. */
  greeting = '{"QMP": {"version": {"qemu": {"major": 11}}, "capabilities": ["oob"]}}';
  /** Hears of the stub's packets, without the frame; gives the answer. */
  debug: (body: string) => string = () => "OK";
  /** What the stub says is sent like this. */
  frame = packet;
  /** While it is busy with itself it obeys only what overtakes others; the others wait. */
  isBusy = false;
  #late: string[] = [];
  readonly #listener: number;
  readonly #arena = new Arena(1 << 20);
  readonly #timer: NodeJS.Timeout;
  readonly #stubs: Socket[] = [];
  #channel: Channel | null = null;
  #pending = "";
  #unsent = Buffer.alloc(0);

  constructor(path: string) {
    this.path = path;
    this.#listener = listenUnix(path, 4);
    this.#timer = setInterval(() => this.#poll(), 1);
  }

  #poll(): void {
    if (this.#channel === null) {
      const fd = acceptUnix(this.#listener);
      if (fd < 0) return;
      this.#channel = new Channel(fd);
      this.say(this.greeting);
    }
    if (this.#unsent.length > 0) this.#flush();
    const { address, bytes, size } = this.#arena;
    const count = this.#channel.receive(address, size, MSG_DONTWAIT);
    for (let i = 0; i < this.#channel.receivedFdCount; i++) {
      this.#debugger(this.#channel.receivedFds[i] as number);
    }
    if (count === 0) this.hangUp();
    if (count <= 0) return;
    const lines = (this.#pending + Buffer.from(bytes.subarray(0, count)).toString()).split("\n");
    this.#pending = lines.pop() ?? "";
    for (const line of lines) this.#obey(line);
  }

  #obey(line: string): void {
    const { execute, "exec-oob": urgent, arguments: args, id } = JSON.parse(line);
    if (this.isBusy && urgent === undefined) return void this.#late.push(line);
    const name = execute ?? urgent;
    const command = this.commands[name];
    const answer = command === undefined ? new Refusal(`no command ${name}`) : command(args);
    if (answer === silence) return;
    if (answer instanceof Refusal) this.tell({ error: { class: "E", desc: answer.desc }, id });
    else this.tell({ return: answer, id });
    if (!this.isBusy) for (const each of this.#late.splice(0)) this.#obey(each);
  }

  #debugger(fd: number): void {
    const stub = new Socket({ fd });
    this.#stubs.push(stub);
    stub.on("error", () => {});
    stub.setEncoding("latin1").on("data", (text: string) => {
      for (const [, body] of text.matchAll(/\$([^#]*)#../g)) {
        stub.write(`+${this.frame(this.debug(body ?? ""))}`);
      }
    });
  }

  /** Says a line, whatever it is. */
  say(line: string): void {
    this.write(`${line}\n`);
  }

  /** Says what need not be a line. */
  write(text: string): void {
    this.#unsent = Buffer.concat([this.#unsent, Buffer.from(text)]);
    this.#flush();
  }

  /** Its client may be in the same thread: it never waits. */
  #flush(): void {
    const piece = this.#unsent.subarray(0, this.#arena.size);
    this.#arena.bytes.set(piece);
    const sent = this.#channel?.send(this.#arena.address, piece.length, MSG_DONTWAIT) ?? 0;
    this.#unsent = this.#unsent.subarray(Math.max(0, sent));
  }

  tell(value: object): void {
    this.say(JSON.stringify(value));
  }

  event(event: string, data: object = {}): void {
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    this.tell({ event, data, timestamp });
  }

  hangUp(): void {
    this.#channel?.close();
    this.#channel = null;
  }

  end(): void {
    clearInterval(this.#timer);
    for (const stub of this.#stubs) stub.destroy();
    this.hangUp();
    closeFd(this.#listener);
  }
}
