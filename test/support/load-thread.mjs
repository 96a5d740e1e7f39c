// A guest driver under load, in a thread of its own, until the shared word says stop. It counts
// everything that must not get lost: doorbells, interrupts, echoes by file and by messages.
import { parentPort, workerData } from "node:worker_threads";
import { Connection } from "../../dist/client/connection.js";
import { GuestRam } from "../../dist/client/guest-ram.js";
import { RemoteDevice } from "../../dist/client/remote-device.js";
import { IrqSetFlags, PciIrq } from "../../dist/spec/vfio.js";
import { createEventfd, drainEventfd, duplicate } from "../../dist/sys/descriptors.js";

const register = { counter: 0x04, doorbell: 0x08, source: 0x10, target: 0x18, length: 0x20 };
const echo = { status: 0x24, start: 0x28, busy: 1 };
const half = 65536;
/** One memory that the device gets as a file, one that it reaches by messages. */
const places = [
  { iova: 0x1000_0000, shared: true },
  { iova: 0x2000_0000, shared: false },
];
const burst = 50;

const { path, stop, twin } = workerData;
const device = new RemoteDevice(Connection.connect(path, { twinSocket: twin }), "under load");
const bytes = new Uint8Array(8);
const view = new DataView(bytes.buffer);

function must(result, what) {
  if (result < 0) throw new Error(`${what}: errno ${-result}`);
  return result;
}

function read(offset) {
  must(device.read(0, offset, bytes, 0, 4), "read");
  return view.getUint32(0, true);
}

function write(offset, value) {
  view.setUint32(0, value, true);
  must(device.write(0, offset, bytes, 0, 4), "write");
}

function expect(actual, wanted, what) {
  if (actual !== wanted) throw new Error(`${what}: ${actual} instead of ${wanted}`);
}

const rams = places.map(({ iova, shared }) => {
  const ram = new GuestRam(2 * half);
  must(ram.map(device, iova, 0, ram.size, { shared }), "map");
  device.attach(ram);
  return ram;
});
device.attach({
  submit: (transfer) => rams[transfer.iova >= places[1].iova ? 1 : 0].submit(transfer),
  cancel() {},
});

const eventfds = [createEventfd(), createEventfd()];
must(
  device.setIrqs({
    index: PciIrq.msix,
    start: 0,
    count: 2,
    data: IrqSetFlags.mask.dataEventfd,
    action: IrqSetFlags.mask.actionTrigger,
    bytes,
    boolsAt: 0,
    fds: eventfds.map(duplicate),
  }),
  "interrupts",
);

const counts = { rounds: 0, doorbells: 0, interrupts: 0, echoes: 0, echoInterrupts: 0 };
write(register.counter, 0);

function ring() {
  for (let i = 0; i < burst; i++) {
    view.setUint32(0, i, true);
    must(device.post(0, register.doorbell, bytes, 0, 4), "post");
  }
  counts.doorbells += burst;
  expect(read(register.counter), counts.doorbells % 2 ** 32, "counter");
  counts.interrupts += drainEventfd(eventfds[0]);
}

function doEcho(which) {
  const ram = rams[which];
  const { iova } = places[which];
  const length = 1 + ((counts.rounds * 7919) % half);
  ram.bytes.fill(counts.rounds & 0xff, 0, length);
  ram.bytes.fill(~counts.rounds & 0xff, half, half + length);
  for (const [at, value] of [
    [register.source, iova],
    [register.target, iova + half],
  ]) {
    view.setUint32(0, value, true);
    view.setUint32(4, 0, true);
    must(device.write(0, at, bytes, 0, 8), "address");
  }
  write(register.length, length);
  write(echo.start, 1);
  let status = read(echo.status);
  while (status === echo.busy) status = read(echo.status);
  expect(status, 0, "echo status");
  for (let i = 0; i < length; i++) expect(ram.bytes[half + i], counts.rounds & 0xff, "echoed byte");
  counts.echoes += 1;
  counts.echoInterrupts += drainEventfd(eventfds[1]);
}

parentPort.postMessage("running");
while (Atomics.load(stop, 0) === 0) {
  counts.rounds += 1;
  Atomics.store(stop, 1, counts.rounds);
  ring();
  doEcho(counts.rounds % 2);
}
counts.interrupts += drainEventfd(eventfds[0]);
counts.echoInterrupts += drainEventfd(eventfds[1]);
device.close();
parentPort.postMessage(counts);
parentPort.close();
