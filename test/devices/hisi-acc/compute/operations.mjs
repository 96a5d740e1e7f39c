// Operations that behave badly, for compute workers.
const cell = new Int32Array(new SharedArrayBuffer(4));

export const operations = {
  double: ({ bytes }) => ({ bytes: bytes.map((byte) => 2 * byte) }),
  part: ({ bytes }) => ({ bytes: bytes.subarray(1, 3) }),
  sleep({ ms }) {
    Atomics.wait(cell, 0, 0, ms);
    return { slept: ms };
  },
  /** Waits until the first word of what it is given is not 0. */
  until({ words }) {
    Atomics.wait(words, 0, 0);
    return { word: words[0] };
  },
  fail() {
    throw new Error("an operation that throws");
  },
  exit: () => process.exit(3),
  exhaust() {
    const kept = [];
    for (;;) kept.push(new Array(100_000).fill(1));
  },
  spin() {
    for (;;);
  },
};
