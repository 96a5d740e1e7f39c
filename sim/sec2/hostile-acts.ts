/** What a guest does to its own function to keep who migrates it from it, or to get at more. */
import * as raw from "../../src/client/raw-requests.ts";
import {
  DoorbellCommand,
  DoorbellHigh,
  DoorbellLow,
  guestBarBytes,
  MailboxCommand,
  MailboxHead,
  Message,
  Qm,
  qmBar,
} from "../../src/spec/hisi-qm.ts";
import { ConfigHeader } from "../../src/spec/pci.ts";
import type { Act } from "../acts.ts";
import { ramIova } from "../ram.ts";
import { qm } from "./driver.ts";
import type { Sec2Guest } from "./guest.ts";

const { at } = Qm;
/** Long enough for a migration, or for a part of one. */
const whileMsMax = 1500;
const doorbells = 40;
const two32 = 2 ** 32;
/** The PF's queue number in commands about messages. */
const pfQueue = 0;
/** An address, as a multiple of 2^32, where no guest has memory. */
const nowhereHigh = 0x100;

const aWhile = ({ world, random }: Sec2Guest): Promise<void> =>
  world.clock.sleep(random.below(whileMsMax));

/** A driver that makes a fresh start, whatever it has done before. */
const startAnew = (guest: Sec2Guest): Promise<void> => guest.reset(raw.deviceReset());

/** What the guest has stored is what it reads, wherever its function is by then. */
async function expectStored(guest: Sec2Guest, name: string, offset: number, value: number) {
  const found = await guest.read(offset);
  if (found === value) return;
  const [is, was] = [found, value].map((word) => word.toString(16));
  guest.world.fail("registers stay", `${name} is 0x${is}, and the guest has stored 0x${was}`);
}

/** A command without its last dword never begins, and the mailbox is busy for ever. */
async function leaveBusy(guest: Sec2Guest): Promise<void> {
  const { sqc, vft, pause, queueWindow } = MailboxCommand;
  const command = guest.random.pick([sqc, vft, pause, queueWindow]);
  const words = [MailboxHead.pack({ command, busy: true }), 0x5000, guest.random.below(two32)];
  await guest.write(at.MAILBOX, ...words);
  await aWhile(guest);
  for (const [index, word] of words.entries()) {
    await expectStored(guest, `MAILBOX[${index}]`, at.MAILBOX + 4 * index, word);
  }
}

/** Interrupts that are masked wait for their mask; so they do on the way. */
async function mask(guest: Sec2Guest): Promise<void> {
  const masks = { EQ_INT_MASK: at.EQ_INT_MASK, AEQ_INT_MASK: at.AEQ_INT_MASK };
  for (const offset of Object.values(masks)) await guest.write(offset, 1);
  const trials = await guest.submit(3);
  await aWhile(guest);
  for (const [name, offset] of Object.entries(masks)) await expectStored(guest, name, offset, 1);
  for (const offset of Object.values(masks)) await guest.write(offset, 0);
  await guest.finishAll(trials);
}

/** Says that nobody runs the function, and uses it. */
async function lie(guest: Sec2Guest): Promise<void> {
  await guest.write(at.VF_STATE, 1);
  const trials = await guest.submit(2);
  await aWhile(guest);
  await guest.finishAll(trials);
  await expectStored(guest, "VF_STATE", at.VF_STATE, 1);
  await guest.write(at.VF_STATE, 0);
}

/** Doorbells of queues, and indices, that there are not. */
async function storm(guest: Sec2Guest): Promise<void> {
  const { random } = guest;
  const { sq, cq, eq, aeq } = DoorbellCommand;
  const rung = Array.from({ length: doorbells }, () => {
    const command = random.pick([sq, cq, eq, aeq, 7]);
    const isEvent = command === eq || command === aeq;
    const queue = isEvent ? 0 : random.pick([0, qm.traits.queues, 0xfff]);
    const low = DoorbellLow.pack({ queue, command });
    const high = DoorbellHigh.pack({ index: random.between(0x100, 0xffff) });
    return guest.write(isEvent ? at.EVENT_DOORBELL : at.QUEUE_DOORBELL, low, high);
  });
  await Promise.all(rung);
}

/** Writes nonsense over rings, contexts, tables and requests, while the device works on them. */
async function scramble(guest: Sec2Guest): Promise<void> {
  const { random, world } = guest;
  const { bytes } = world.kind.ram;
  await guest.submit(6);
  for (let i = random.between(1, 4); i > 0; i--) {
    const from = random.below(bytes.length);
    bytes.fill(random.below(256), from, from + random.below(0x4000));
  }
  await aWhile(guest);
  await startAnew(guest);
}

/** Takes the tables of contexts to where there is no memory, for a while. */
async function moveTables(guest: Sec2Guest): Promise<void> {
  const { sqcTable, cqcTable } = MailboxCommand;
  for (const command of [sqcTable, cqcTable]) {
    await guest.command(command, { address: nowhereHigh * two32 });
  }
  await guest.finishAll(await guest.submit(2));
  await aWhile(guest);
  await startAnew(guest);
}

/** Ends all of its queues, which may take as long as their requests. */
async function flush(guest: Sec2Guest): Promise<void> {
  await guest.submit(6);
  await guest.write(at.MAILBOX, MailboxHead.pack({ command: MailboxCommand.flush, busy: true }));
  await guest.write(at.MAILBOX + 4, 0, 0);
  await guest.write(at.MAILBOX + 12, 0);
  await aWhile(guest);
  await startAnew(guest);
}

/** Takes the memory away while requests may use it: what comes of that is the guest's own doing. */
async function unmapInFlight(guest: Sec2Guest): Promise<void> {
  await guest.submit(6);
  await guest.ask(raw.dmaUnmap({ address: ramIova, size: guest.world.kind.ram.size }));
  await aWhile(guest);
  await guest.vmm.mapMemory();
  await startAnew(guest);
}

/** Does not answer the device's DMA for a while. */
async function starve(guest: Sec2Guest): Promise<void> {
  const { vmm } = guest;
  vmm.answersDma = false;
  await guest.submit(6);
  await aWhile(guest);
  vmm.answersDma = true;
  await startAnew(guest);
}

/**
 * Asks the PF something, and takes its answer. Silicon cannot take it along; so from a control half
 * no function goes there that has one.
 */
async function message(guest: Sec2Guest): Promise<void> {
  await guest.command(MailboxCommand.sendMessage, { queue: pfQueue, address: Message.vfGetQos });
  await guest.write(at.IFC_INT_SET, 1);
  const { control } = guest.vmm.host.machine;
  await aWhile(guest);
  if (control === "own") {
    await expectStored(guest, "IFC_INT_SOURCE", at.IFC_INT_SOURCE, 1);
    const answer = await guest.command(MailboxCommand.receiveMessage, {
      queue: pfQueue,
      get: true,
    });
    const isIt = (answer[0] & 0xff) === Message.pfSetQos;
    if (!isIt) guest.world.fail("nothing lost", `the PF's message is ${answer}`);
  }
  await guest.write(at.IFC_INT_SOURCE, 1);
}

/** Stores a register that has no effect: it must be done, however long it waits. */
async function store(guest: Sec2Guest): Promise<void> {
  const size = guest.random.below(3);
  await guest.write(at.PAGE_SIZE, size);
  await aWhile(guest);
  await expectStored(guest, "PAGE_SIZE", at.PAGE_SIZE, size);
}

/** Asks how long its BAR is, as firmware does, and puts back what was there. */
async function sizeBar(guest: Sec2Guest): Promise<void> {
  const bar = ConfigHeader.at.BAR0 + 4 * qmBar;
  for (const byte of [0xff, 0x00]) await guest.writeConfig(bar, new Uint8Array(4).fill(byte));
}

/** The half of the BAR for who migrates it is none of the guest's. */
async function reachOver(guest: Sec2Guest): Promise<void> {
  const beyond = guest.random.pick([guestBarBytes, at.CONTROL_MAILBOX, at.STANDSTILL]);
  const { error } = await guest.ask(raw.regionWrite(qmBar, beyond, new Uint8Array(4).fill(1)));
  if (error === 0) guest.world.fail("two planes", "the guest reaches the control half");
}

export const hostileActs: readonly Act<Sec2Guest>[] = [
  { name: "leaves its mailbox busy", run: leaveBusy },
  { name: "masks its interrupts", run: mask },
  { name: "lies about its state", run: lie },
  { name: "storms", run: storm },
  { name: "scrambles its memory", run: scramble },
  { name: "moves its tables", run: moveTables },
  { name: "flushes", run: flush },
  { name: "unmaps in flight", run: unmapInFlight },
  { name: "answers no DMA", run: starve },
  { name: "asks the PF", run: message },
  { name: "stores", run: store },
  { name: "sizes its BAR", run: sizeBar, disturbs: true },
  { name: "reaches over", run: reachOver },
];
