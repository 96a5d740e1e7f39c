// A guest that keeps an accelerator at work, in a thread of its own, until the shared word says
// stop. The device reaches its memory by messages alone.
import { parentPort, workerData } from "node:worker_threads";
import { Connection } from "../../dist/client/connection.js";
import { RemoteDevice } from "../../dist/client/remote-device.js";
import { SteadyLoad } from "../../dist/guest/steady-load.js";
import { openWorkload } from "../../dist/guest/workloads.js";

const { path, stop, depth, queues } = workerData;
const device = new RemoteDevice(Connection.connect(path), "under load");
const workload = openWorkload(device, { sharedMemory: false, queues });
const load = new SteadyLoad(workload, depth);
parentPort.postMessage("running");
while (Atomics.load(stop, 0) === 0) {
  load.turn(1);
  Atomics.store(stop, 1, load.operations);
}
while (load.pending > 0) load.collect(1);
const { operations, wrong, firstError } = load;
parentPort.postMessage({ operations, wrong, firstError });
device.close();
parentPort.close();
