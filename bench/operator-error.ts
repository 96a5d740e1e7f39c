/** A mistake that the person at the keyboard can mend: its message is all that is printed. */
export class OperatorError extends Error {
  override readonly name = "OperatorError";
}

/** Runs a program of this folder: an operator's mistake is one sentence and exit status 2. */
export async function main(program: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await program();
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
}
