/** What a hostile neighbour tries: a guest with a VF beside the one that migrates. */
import { randomBytes } from "node:crypto";
import { connect as connectTls } from "node:tls";
import { errno } from "../../base/errno.ts";
import { RawClient } from "../../client/raw-client.ts";
import { message, proposal } from "../../client/raw-requests.ts";
import type { RemoteDevice } from "../../client/remote-device.ts";
import {
  DoorbellHigh,
  DoorbellLow,
  guestBarBytes,
  MailboxCommand,
  MailboxHead,
  Qm,
  qmBar,
} from "../../spec/hisi-qm.ts";
import { Feature, FeatureFlags, FeatureMigState, MigState } from "../../spec/vfio.ts";

/** Where the attacker is and what it is after. */
export interface Scene {
  /** Its own VF, in the same process as the victim's. */
  readonly own: RemoteDevice;
  /** The victim's socket. */
  readonly victimSocket: string;
  /** Where a host takes devices in. */
  readonly migrationPort: number;
}

/** One attack: `run` says whether it was refused as it must be. */
export interface Attack {
  readonly name: string;
  /** True when it was refused; null when there was nobody to refuse it. */
  run(scene: Scene): boolean | Promise<boolean | null>;
}

const stormWrites = 256;
const answerMs = 2000;
const garbageBytes = 64;
/** Neither mapped nor likely to be. */
const nowhere = 0x7777_0000_0000;
const absentQueue = 4000;
const twoTo32 = 2 ** 32;

const bytes = new Uint8Array(16);
const view = new DataView(bytes.buffer);

function write(device: RemoteDevice, offset: number, ...words: number[]): number {
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  return device.write(qmBar, offset, bytes, 0, 4 * words.length);
}

function read(device: RemoteDevice, offset: number): number {
  const result = device.read(qmBar, offset, bytes, 0, 4);
  return result < 0 ? result : view.getUint32(0, true);
}

/** Has the mailbox do a command: its status, 0 for success. */
function command(device: RemoteDevice, number: number, address = 0): number {
  const head = MailboxHead.pack({ command: number, busy: true, queue: 0 });
  write(device, Qm.at.MAILBOX, head, address % twoTo32, Math.floor(address / twoTo32), 0);
  return MailboxHead.unpack(read(device, Qm.at.MAILBOX)).status;
}

function setState(device: RemoteDevice, deviceState: number): number {
  const { size } = FeatureMigState;
  const data = new Uint8Array(size);
  FeatureMigState.set(new DataView(data.buffer), 0, { deviceState, dataFd: -1 });
  const flags = FeatureFlags.mask.set | Feature.migDeviceState;
  return device.feature(flags, data, 0, size, size);
}

/** What a stranger hears who says this on the victim's socket: an errno, or 0 for a welcome. */
function say({ victimSocket }: Scene, words: Uint8Array): number {
  const client = RawClient.connect(victimSocket);
  if (typeof client === "number") return client;
  client.send(words);
  const heard = client.receive(answerMs);
  client.close();
  if (heard === "closed") return -errno.ECONNRESET;
  return typeof heard === "string" ? 0 : -heard.error;
}

/** A connection without a certificate is cut off before anything is read from it. */
function knock({ migrationPort }: Scene): Promise<boolean | null> {
  return new Promise((resolve) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: migrationPort,
      minVersion: "TLSv1.3",
      rejectUnauthorized: false,
    });
    socket.setTimeout(answerMs, () => socket.destroy());
    // Before a device was put on offer nobody listens.
    let isThere = false;
    socket.once("connect", () => (isThere = true));
    socket.once("data", () => resolve(false));
    socket.on("error", () => {});
    socket.once("close", () => resolve(isThere ? true : null));
    socket.write(randomBytes(garbageBytes));
  });
}

/** All of them; each is tried again and again. */
export const attacks: readonly Attack[] = [
  {
    name: "a second client for the victim's device",
    run: (scene) => say(scene, message(proposal({}))) === -errno.EBUSY,
  },
  {
    name: "garbage on the victim's socket",
    run: (scene) => say(scene, randomBytes(garbageBytes)) < 0,
  },
  {
    name: "reading the control half of its BAR",
    run: ({ own }) => own.read(qmBar, guestBarBytes, bytes, 0, 4) < 0,
  },
  {
    name: "writing the control mailbox",
    run: ({ own }) => write(own, Qm.at.CONTROL_MAILBOX, 0, 0, 0, 0) < 0,
  },
  {
    name: "a storm of doorbells for queues that there are not",
    run: ({ own }) => {
      const low = DoorbellLow.pack({ queue: absentQueue & 0xfff });
      for (let i = 0; i < stormWrites; i++) {
        write(own, Qm.at.QUEUE_DOORBELL, low, DoorbellHigh.pack({ index: i }));
      }
      return read(own, Qm.at.FUNC_CAPS) > 0;
    },
  },
  {
    name: "pausing the function from the guest's mailbox",
    run: ({ own }) => command(own, MailboxCommand.pause) !== 0,
  },
  {
    name: "a queue outside of its memory",
    run: ({ own }) => command(own, MailboxCommand.sqc, nowhere) !== 0,
  },
  {
    name: "a forged state for its own VF",
    run: ({ own }) => {
      const entered = setState(own, MigState.resuming) >= 0;
      const taken = own.writeMigration(randomBytes(garbageBytes), 0, garbageBytes);
      const loaded = setState(own, MigState.stop) >= 0;
      return entered && !(taken >= 0 && loaded) && own.reset() >= 0;
    },
  },
  { name: "a link without a certificate", run: knock },
];
