// A device's thread: it computes something long, and polls instead of entering its event loop.
import { parentPort } from "node:worker_threads";
import { ComputePool, inlineCostMax } from "../../../../dist/devices/hisi-acc/compute.js";
import { PollSet } from "../../../../dist/sys/poll.js";

const readable = 1;
const patienceMs = 20_000;
const pool = new ComputePool();
const input = { requestType: 1, source: new Uint8Array(1000), windowBits: 11, outputMax: 2 };
const running = pool.compute(inlineCostMax + 1, { operation: "zip-compress", input });

let step = running.next();
while (!step.done) {
  const set = new PollSet(1);
  const [watch] = pool.watches;
  set.add(watch.fd, readable);
  if (set.wait(patienceMs) !== 1) break;
  watch.ready();
  step = running.next();
}
parentPort.postMessage(step.value);
