import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { GuestCount, GuestOrder } from "./guest-orders.ts";

const program = fileURLToPath(new URL("./guest.ts", import.meta.url));

/** No answer takes so long unless something hangs. */
const answerMs = 60_000;

/** A guest as whoever commands its VMM has it: it obeys one order after the other, or is dead. */
export class GuestProcess {
  readonly #child: ChildProcess;
  #said = "";
  /** What it answered last. */
  count: GuestCount = { operations: 0, wrong: 0, firstError: "", pending: 0, trouble: "" };

  private constructor() {
    this.#child = fork(program, {
      execArgv: ["--import", "tsx"],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-4096);
    });
    this.#child.on("error", () => {});
  }

  static async boot(socket: string): Promise<GuestProcess> {
    const guest = new GuestProcess();
    const count = await guest.tell({ op: "boot", socket });
    if (count === null) throw new Error(`the guest does not boot: ${guest.#said}`);
    return guest;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Its answer; null when it is dead. */
  async tell(order: GuestOrder): Promise<GuestCount | null> {
    if (!this.alive || !this.#child.connected) return null;
    const answer = new Promise<GuestCount | null>((resolve, reject) => {
      const late = new Error(`the guest does not answer to ${JSON.stringify(order)}`);
      const timer = setTimeout(() => reject(late), answerMs);
      const settle = (count: GuestCount | null): void => {
        clearTimeout(timer);
        resolve(count);
      };
      this.#child.once("exit", () => settle(null));
      this.#child.once("message", (count) => settle(count as GuestCount));
    });
    this.#child.send(order, () => {});
    const count = await answer;
    this.#child.removeAllListeners("exit");
    if (count !== null) this.count = count;
    return count;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.alive) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}
