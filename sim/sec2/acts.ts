/** What a guest of an accelerator does, and what must come of each. */
import { MailboxCommand, VftHigh } from "../../src/spec/hisi-qm.ts";
import { type Act, commonActs } from "../acts.ts";
import { qm } from "./driver.ts";
import type { Sec2Guest } from "./guest.ts";
import { hostileActs } from "./hostile-acts.ts";

const deviceControlAt = 0x60;

async function encrypt(guest: Sec2Guest, count: number): Promise<void> {
  await guest.finishAll(await guest.submit(count));
  await guest.count();
}

/** Requests are under way while one version of the server after the other takes the device over. */
async function outliveServers(guest: Sec2Guest): Promise<void> {
  const { random } = guest;
  const trials = await guest.submit(6);
  for (let left = random.between(1, 4); left > 0; left--) {
    await guest.vmm.host.machine.upgrade();
  }
  await guest.finishAll(trials);
  await guest.count();
}

/** A command whose answer is known, however often it is interrupted. */
async function askQueues(guest: Sec2Guest): Promise<void> {
  const [, high] = await guest.command(MailboxCommand.vft, { get: true });
  const { valid, lastQueue } = VftHigh.unpack(high);
  if (valid && lastQueue + 1 === qm.traits.queues) return;
  guest.world.fail("no wrong answer", `the mailbox tells of ${lastQueue + 1} queues`);
}

export const acts: readonly Act<Sec2Guest>[] = [
  { name: "encrypts", run: (guest) => encrypt(guest, guest.random.between(1, 4)) },
  { name: "encrypts once more", run: (guest) => encrypt(guest, 1) },
  { name: "encrypts a lot", run: (guest) => encrypt(guest, 8), lasts: true },
  { name: "asks for its queues", run: askQueues },
  { name: "outlives servers", run: outliveServers },
  ...hostileActs,
  ...commonActs(deviceControlAt),
];
