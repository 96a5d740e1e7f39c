/** What comes where a handover is awaited may be anything. */
import { expect, test } from "vitest";
import { handoverBytesMax, handoverFdsMax, receiveCargo } from "../../src/host/handover.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { openFds } from "../client/fake-server.ts";

const magic = 0x59_52_52_46;

/** Receives from somebody who says a head and ends. */
function receive(...head: readonly number[]): unknown {
  const [ours, theirs] = socketPair();
  const arena = new Arena(16);
  for (const [index, word] of head.entries()) arena.view.setUint32(4 * index, word, true);
  const channel = new Channel(theirs);
  channel.send(arena.address, 4 * head.length, 0);
  channel.close();
  try {
    return receiveCargo(ours);
  } finally {
    closeFd(ours);
  }
}

test.each([
  ["another magic", [magic + 1, 0, 0, 0]],
  [`more than ${handoverFdsMax} descriptors`, [magic, handoverFdsMax + 1, 0, 0]],
  [`more than ${handoverBytesMax} bytes`, [magic, 0, handoverBytesMax + 1, 0]],
])("%s is no handover, and nothing is made ready for it", (_, head) => {
  expect(() => receive(...head)).toThrow("the other process sent no handover");
});

test.each([
  ["in its head", "state", [magic, 1]],
  ["before its descriptors", "descriptors", [magic, handoverFdsMax, 0, 0]],
  ["before its state", "state", [magic, 0, handoverBytesMax, 0]],
])("one that ends %s is broken, and leaves no descriptor behind", (_, what, head) => {
  const before = openFds();
  expect(() => receive(...head)).toThrow(
    `the handover broke while ${what} came: the other side has gone.`,
  );
  expect(openFds()).toBe(before);
});
