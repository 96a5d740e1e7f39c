// A guest in a thread of its own: works, or attacks, whenever it is told for how long.
import { createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { deflateRawSync } from "node:zlib";
import { Connection } from "../../dist/client/connection.js";
import { RemoteDevice } from "../../dist/client/remote-device.js";
import { HpreDriver } from "../../dist/guest/hpre-driver.js";
import { Sec2Driver } from "../../dist/guest/sec2-driver.js";
import { ZipDriver } from "../../dist/guest/zip-driver.js";
import { Qm, qmBar } from "../../dist/spec/hisi-qm.js";

const mebibyte = 1 << 20;
const polled = { interrupts: false, batches: true, memoryBytes: 256 * mebibyte };
const key = randomBytes(16);
const iv = randomBytes(16);

/** Keeps `depth` requests under way for a while: requests a second. */
function requests(qm, depth, submit) {
  return (durationMs) => {
    const calls = Array.from({ length: depth }, submit);
    const startMs = performance.now();
    let [count, oldest] = [0, 0];
    while (performance.now() - startMs < durationMs) {
      qm.poll();
      for (let call = calls[oldest]; call.done; call = calls[oldest]) {
        calls[oldest] = submit();
        oldest = (oldest + 1) % depth;
        count += 1;
      }
    }
    const elapsedMs = performance.now() - startMs;
    for (const call of calls) {
      while (!call.done) qm.poll();
    }
    return (1000 * count) / elapsedMs;
  };
}

/** Does something again and again for a while, which the device may refuse. */
const again = (act) => (durationMs) => {
  const startMs = performance.now();
  let count = 0;
  for (; performance.now() - startMs < durationMs; count++) act(count);
  return (1000 * count) / durationMs;
};

const ciphers = (bytes, depth) => (device) => {
  const { qm, ...driver } = sec2(device, bytes, depth);
  return requests(qm, depth, driver.submit);
};

function sec2(device, bytes, depth) {
  const driver = new Sec2Driver(device, { ...polled, depth, dataBytesMax: bytes });
  const [data, output] = [randomBytes(bytes), new Uint8Array(bytes)];
  const request = { algorithm: "cbc(aes)", encrypt: true, key, iv, data, output };
  return { qm: driver.qm, submit: () => driver.submit(request) };
}

function doorbells(device) {
  const { qm } = sec2(device, 16, 16);
  return again((i) => qm.doorbell((i * 7) & 0xfff, i & 3, (i * 5) & 0xffff));
}

function mailboxes(device) {
  const { qm } = sec2(device, 16, 16);
  const pci = qm.function;
  return again((i) => pci.write(qmBar, Qm.at.MAILBOX, 0x2000 | (i & 0xff), i, i >>> 3, 0));
}

const rsa = (bits, isPrivate, depth) => (device) => {
  const driver = new HpreDriver(device, { ...polled, depth });
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: bits });
  const { n } = createPublicKey(privateKey).export({ format: "jwk" });
  const { e, d } = privateKey.export({ format: "jwk" });
  const exponent = Buffer.from(isPrivate ? d : e, "base64url");
  const modulus = Buffer.from(n, "base64url");
  const message = randomBytes(modulus.length - 1);
  return requests(driver.qm, depth, () => driver.submitRsa(modulus, exponent, message));
};

function deflates(device) {
  const driver = new ZipDriver(device, { ...polled, depth: 4, dataBytesMax: 4096 });
  const data = Buffer.alloc(4096, "a neighbour's data, ");
  return requests(driver.qm, 4, () => driver.submitDeflate(data));
}

/** Streams that would give more than they may. */
function bombs(device) {
  const depth = 16;
  const driver = new ZipDriver(device, { ...polled, depth, dataBytesMax: mebibyte });
  const bomb = deflateRawSync(Buffer.alloc(512 * mebibyte));
  const output = new Uint8Array(mebibyte);
  return requests(driver.qm, depth, () => driver.submitInflate(bomb, mebibyte, output));
}

const roles = {
  "cbc 4 KiB": ciphers(4096, 16),
  "cbc 8 MiB": ciphers(8 * mebibyte, 8),
  "doorbell storm": doorbells,
  "mailbox storm": mailboxes,
  "deflate 4 KiB": deflates,
  "zip bombs": bombs,
  "rsa-2048 public": rsa(2048, false, 16),
  "rsa-4096 private storm": rsa(4096, true, 32),
};

const { socketPath, role } = workerData;
const device = new RemoteDevice(Connection.connect(socketPath, {}), role);
const work = roles[role](device);
parentPort.on("message", (durationMs) => parentPort.postMessage(work(durationMs)));
parentPort.postMessage("ready");
