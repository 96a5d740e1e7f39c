/** Waits that end: a hung guest fails its test with a sentence, it does not hang the suite. */

/** The promise's value, or an error that says what was waited for. */
export function within<T>(promise: Promise<T>, timeoutMs: number, what: () => string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`No ${what()} within ${timeoutMs} ms.`));
    }, timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Repeats a question until its answer is not undefined. */
export async function until<T>(
  question: () => T | undefined,
  timeoutMs: number,
  what: () => string,
): Promise<T> {
  const endMs = Date.now() + timeoutMs;
  for (;;) {
    const answer = question();
    if (answer !== undefined) return answer;
    if (Date.now() > endMs) throw new Error(`No ${what()} within ${timeoutMs} ms.`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
