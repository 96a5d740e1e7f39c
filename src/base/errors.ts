/**
 * An operator's mistake, or a fault of the world around us, told as one sentence: what happened, to
 * which device or file, and what to do. The command line prints `message` and no stack.
 */
export class FerryError extends Error {
  override readonly name = "FerryError";
  /** Stable identifier for scripts, for example `socket-in-use`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What a caught value says, whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
