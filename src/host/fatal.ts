import { messageOf } from "../base/errors.ts";
import { exitProcess } from "../sys/libc.ts";
import { shutdownSocket } from "../sys/unix.ts";

/** BSD's sysexits: an internal software error. */
export const fatalExitCode = 70;

/**
 * The end of the process after our own mistake. A worker that is blocked in a system call would
 * turn
 * `process.exit` into a hang, so every socket is shut down, one line is told, and the process is
 * gone at once.
 */
export class Fatal {
  readonly #tell: (message: string, error: unknown) => void;
  readonly #sockets: () => readonly number[];

  /** `sockets` names those that workers may be blocked in. */
  constructor(tell: (message: string, error: unknown) => void, sockets: () => readonly number[]) {
    this.#tell = tell;
    this.#sockets = sockets;
  }

  /** Makes every uncaught error of this process end it. */
  install(): void {
    process.on("uncaughtException", (error) => this.end(error));
    process.on("unhandledRejection", (error) => this.end(error));
  }

  readonly end = (error: unknown): never => {
    for (const fd of this.#sockets()) shutdownSocket(fd);
    try {
      this.#tell(`internal error, the process ends: ${messageOf(error)}`, error);
    } finally {
      exitProcess(fatalExitCode);
    }
  };
}
