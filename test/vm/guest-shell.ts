/** The host's end of guest/init: sends commands to the guest and reads what they wrote. */
import type { Socket } from "node:net";
import { within } from "./deadline.ts";

/** Ends a command's output, and comes before the line that says how it ended (see guest/init). */
const endOfOutput = "\x1e";

export interface GuestAnswer {
  readonly output: string;
  /** The command's exit status. */
  readonly status: number;
}

export class GuestShell {
  readonly #socket: Socket;
  #received = "";
  #lastNumber = 0;
  #readyCount = 0;
  #wake: () => void = () => {};
  #fail: (error: Error) => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.on("data", (text: string) => {
      this.#received += text;
      this.#wake();
    });
    socket.on("close", () => this.#fail(new Error("QEMU closed the guest's shell")));
  }

  /** Waits for the end of the guest's next boot. */
  async ready(timeoutMs: number): Promise<void> {
    const boot = ++this.#readyCount;
    const prompt = new RegExp(`${endOfOutput}READY \\S+\\n`);
    await within(this.#take(prompt), timeoutMs, () => `prompt of boot ${boot}`);
  }

  /** Runs one line of shell in the guest. */
  async execute(command: string, timeoutMs: number): Promise<GuestAnswer> {
    const number = ++this.#lastNumber;
    this.#socket.write(`${number} ${command}\n`);
    const end = new RegExp(`${endOfOutput}${number} (\\d+)\\n`);
    const what = () => `answer to "${command}" (so far: ${JSON.stringify(this.#received)})`;
    const [match, output] = await within(this.#take(end), timeoutMs, what);
    return { output, status: Number(match[1]) };
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Waits for a pattern; what came before it is returned with the match, and both are consumed. */
  #take(pattern: RegExp): Promise<[RegExpExecArray, string]> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) reject(new Error("QEMU has closed the guest's shell"));
      this.#fail = reject;
      this.#wake = () => {
        const match = pattern.exec(this.#received);
        if (match === null) return;
        const before = this.#received.slice(0, match.index);
        this.#received = this.#received.slice(match.index + match[0].length);
        this.#wake = () => {};
        resolve([match, before]);
      };
      this.#wake();
    });
  }
}
