// A driver for examples/dice.mjs, in another process than the device:
//
//   node examples/roll.mjs /tmp/dice.sock 5
import { Connection, errnoName, RemoteDevice } from "vfio-ferry";

const [socketPath = "/tmp/dice.sock", rolls = "3"] = process.argv.slice(2);
const bar0 = 0;
const register = { roll: 0x04, value: 0x08 };

const device = new RemoteDevice(Connection.connect(socketPath, { timeoutMs: 5000 }), "dice");
const bytes = new Uint8Array(4);
const word = new DataView(bytes.buffer);

/** Every call of a device is a count or 0, or a negated errno. */
function check(result) {
  if (result < 0) throw new Error(`the device answered ${errnoName(result)}`);
}

for (let i = 0; i < Number(rolls); i++) {
  word.setUint32(0, 1, true);
  check(device.write(bar0, register.roll, bytes, 0, 4));
  check(device.read(bar0, register.value, bytes, 0, 4));
  console.log(word.getUint32(0, true));
}
device.close();
