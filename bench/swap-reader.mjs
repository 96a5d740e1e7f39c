// A vCPU that reads one register without a pause, and keeps the longest wait since it was asked.
import { parentPort, workerData } from "node:worker_threads";
import { Connection } from "../dist/client/connection.js";
import { RemoteDevice } from "../dist/client/remote-device.js";

const device = new RemoteDevice(Connection.connect(workerData.path), "read by the bench");
const { region, stop, longest } = workerData;
const bytes = new Uint8Array(4);
parentPort.postMessage("reads");
while (Atomics.load(stop, 0) === 0) {
  const begun = performance.now();
  if (device.read(region, 0, bytes, 0, 4) < 0) throw new Error("the device is gone");
  longest[0] = Math.max(longest[0], performance.now() - begun);
}
device.close();
