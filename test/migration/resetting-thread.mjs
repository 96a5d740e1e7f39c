// Makes a reset each time that it is told to, at the same time as its parent closes the seal.
import { workerData } from "node:worker_threads";
import { Seal } from "../../dist/migration/seal.js";

const { words, rounds } = workerData;
const seal = new Seal(words.subarray(0, 1));
for (let round = 1; round <= rounds; round++) {
  while (Atomics.load(words, 1) !== round);
  Atomics.store(words, 3, seal.count() ? 1 : 0);
  Atomics.store(words, 2, round);
  Atomics.notify(words, 2);
}
