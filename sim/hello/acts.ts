/** What a guest of a hello device does, the hostile things too, and what must come of each. */
import * as raw from "../../src/client/raw-requests.ts";
import { type Act, commonActs } from "../acts.ts";
import { ramIova } from "../ram.ts";
import type { HelloGuest } from "./guest.ts";
import { ram } from "./ram.ts";

/** Registers of the hello device. */
const Reg = {
  counter: 0x04,
  doorbell: 0x08,
  cause: 0x0c,
  echoSource: 0x10,
  echoTarget: 0x18,
  echoLength: 0x20,
  echoStatus: 0x24,
  echoStart: 0x28,
  scratch: 0x2c,
} as const;
const busy = 1;
const sourceAt = 0x1000;
const targetAt = 0x8000;
const echoBytesMax = 8192;
/** Looks at an echo that is not done before it is lost: each waits some milliseconds. */
const looksMax = 3000;
const deviceControlAt = 0x50;

async function count(guest: HelloGuest): Promise<void> {
  const counted = await guest.read(Reg.counter);
  if (counted === guest.rings) return;
  const what = counted < guest.rings ? "lost" : "done twice";
  guest.world.fail(
    `nothing ${what}`,
    `the device has counted ${counted} doorbells, and ${guest.rings} were rung`,
  );
}

async function ring(guest: HelloGuest, times: number): Promise<void> {
  const before = guest.signals(0);
  const rung = Array.from({ length: times }, () => guest.write(Reg.doorbell, 1));
  await Promise.all(rung);
  guest.rings += times;
  await count(guest);
  if (guest.signals(0) === before) guest.world.fail("nothing lost", "a doorbell has no interrupt");
}

/** Starts an echo of a fresh pattern; gives back what must arrive. */
async function startEcho(guest: HelloGuest): Promise<Uint8Array> {
  const { random } = guest;
  const length = random.between(1, echoBytesMax);
  const pattern = new Uint8Array(length).fill(random.below(256), 0, length >> 1);
  pattern.fill(random.below(256), length >> 1);
  ram.bytes.set(pattern, sourceAt);
  ram.bytes.fill(0, targetAt, targetAt + echoBytesMax);
  await guest.write(Reg.echoSource, ramIova + sourceAt, 8);
  await guest.write(Reg.echoTarget, ramIova + targetAt, 8);
  await guest.write(Reg.echoLength, length);
  await guest.write(Reg.echoStart, 1);
  return pattern;
}

async function endEcho(guest: HelloGuest): Promise<number> {
  for (let look = 0; look < looksMax; look++) {
    const status = await guest.read(Reg.echoStatus);
    if (status !== busy) return status;
    await guest.world.clock.sleep(guest.random.below(20));
  }
  guest.world.fail("nothing lost", "an echo never ends");
  return 0;
}

async function echo(guest: HelloGuest, servers = 0): Promise<void> {
  const before = guest.signals(1);
  const pattern = await startEcho(guest);
  for (let left = servers; left > 0; left--) await guest.vmm.host.machine.upgrade();
  const status = await endEcho(guest);
  const came = (): Uint8Array => ram.bytes.subarray(targetAt, targetAt + pattern.length);
  if (status !== 0) guest.world.fail("nothing lost", `an echo ends with ${status.toString(16)}`);
  if (Buffer.compare(came(), pattern) !== 0) guest.world.fail("nothing lost", "an echo is wrong");
  if (guest.signals(1) === before) guest.world.fail("nothing lost", "an echo has no interrupt");
  await guest.write(Reg.cause, 3);
  // Were it done a second time, it would show what is there now.
  ram.bytes.fill(0xee, sourceAt, sourceAt + pattern.length);
  await guest.world.clock.sleep(guest.random.below(30));
  await count(guest);
  if (Buffer.compare(came(), pattern) !== 0) {
    guest.world.fail("nothing done twice", "an echo was done a second time");
  }
}

/** Takes the memory away while an echo may use it: what comes of that is the guest's own doing. */
async function unmapInFlight(guest: HelloGuest): Promise<void> {
  await startEcho(guest);
  await guest.ask(raw.dmaUnmap({ address: ramIova, size: ram.size }));
  await guest.world.clock.sleep(guest.random.below(10));
  await guest.vmm.mapMemory();
  await endEcho(guest);
  await guest.write(Reg.cause, 3);
}

/** Does not answer the device's DMA for a while, for which the guest pays with its echo. */
async function starve(guest: HelloGuest): Promise<void> {
  const { vmm } = guest;
  vmm.answersDma = false;
  await startEcho(guest);
  await guest.world.clock.sleep(guest.random.below(2000));
  vmm.answersDma = true;
  await endEcho(guest);
  await guest.write(Reg.cause, 3);
}

export const acts: readonly Act<HelloGuest>[] = [
  { name: "rings", run: (guest) => ring(guest, guest.random.between(1, 6)), lasts: true },
  { name: "rings once more", run: (guest) => ring(guest, 1) },
  { name: "echoes", run: (guest) => echo(guest), lasts: true },
  { name: "echoes once more", run: (guest) => echo(guest) },
  { name: "outlives servers", run: (guest) => echo(guest, guest.random.between(1, 4)) },
  { name: "storms", run: (guest) => ring(guest, 60) },
  { name: "unmaps in flight", run: unmapInFlight },
  { name: "answers no DMA", run: starve },
  ...commonActs(deviceControlAt),
];
