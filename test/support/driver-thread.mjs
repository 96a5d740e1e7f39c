// A client in a thread of its own: the host under test needs the main thread's event loop, and a
// client blocks. Orders come as messages, answers go back the same way.
import { parentPort, workerData } from "node:worker_threads";
import { Connection } from "../../dist/client/connection.js";
import { RemoteDevice } from "../../dist/client/remote-device.js";

const device = new RemoteDevice(Connection.connect(workerData.path), "device under test");
const bytes = new Uint8Array(8);
const view = new DataView(bytes.buffer);

const orders = {
  read(region, offset) {
    const result = device.read(region, offset, bytes, 0, 4);
    return result < 0 ? result : view.getUint32(0, true);
  },
  write(region, offset, value) {
    view.setUint32(0, value, true);
    return device.write(region, offset, bytes, 0, 4);
  },
  /**
   * Posts writes of 1 .. count to one place, then reads it: what a driver's doorbells look like.
   */
  posts(region, offset, count) {
    for (let value = 1; value <= count; value++) {
      view.setUint32(0, value, true);
      const result = device.post(region, offset, bytes, 0, 4);
      if (result < 0) return result;
    }
    return orders.read(region, offset);
  },
  reset: () => device.reset(),
  close() {
    device.close();
    return 0;
  },
};

parentPort.on("message", ({ id, order, args }) => {
  parentPort.postMessage({ id, answer: orders[order](...args) });
});
parentPort.postMessage({ id: 0, answer: device.regions.length });
