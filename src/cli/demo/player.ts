import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FerryError } from "../../base/errors.ts";

const modules = {
  guest: new URL("./guest.js", import.meta.url),
  attacker: new URL("./attacker.js", import.meta.url),
} as const;

/** As this very file is running: compiled, or as its source. */
const entry = ({ href }: URL): string =>
  fileURLToPath(import.meta.url.endsWith(".ts") ? href.replace(/js$/, "ts") : href);

/** One of the demonstration's processes: it is told something and answers. */
export class Player {
  readonly #name: keyof typeof modules;
  readonly #child: ChildProcess;
  readonly #endWithUs = (): void => void this.#child.kill("SIGKILL");

  constructor(name: keyof typeof modules) {
    this.#name = name;
    this.#child = fork(entry(modules[name]), {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    process.on("exit", this.#endWithUs);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  tell(order: unknown): void {
    this.#child.send(order as object);
  }

  /** Its next answer. */
  hear(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const gone = (): void => {
        reject(new FerryError("demo-failed", `the ${this.#name}'s process has ended.`));
      };
      this.#child.once("exit", gone);
      this.#child.once("message", (answer) => {
        this.#child.off("exit", gone);
        resolve(answer);
      });
    });
  }

  /** Ends the process if it has not ended. */
  stop(): void {
    process.off("exit", this.#endWithUs);
    this.#child.kill("SIGKILL");
  }
}
