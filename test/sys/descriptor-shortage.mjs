// Receives three descriptors with room for three, two and none. A process of its own, because it
// runs out of descriptors.
import { closeSync, openSync } from "node:fs";
import { Arena } from "../../dist/sys/arena.js";
import { Channel } from "../../dist/sys/channel.js";
import { createEventfd } from "../../dist/sys/descriptors.js";
import { socketPair } from "../../dist/sys/unix.js";

const arena = new Arena(4096);
const [near, far] = socketPair().map((fd) => new Channel(fd));
const sent = [createEventfd(), createEventfd(), createEventfd()];

const fillers = [];
for (;;) {
  try {
    fillers.push(openSync("/dev/null", "r"));
  } catch {
    break;
  }
}

const results = [3, 2, 0].map((free) => {
  for (const fd of fillers.splice(0, free)) closeSync(fd);
  near.sendWithFds(arena.address, 1, sent);
  far.receive(arena.address, 10);
  const { receivedFdCount: received, truncated } = far;
  // What came takes the places of the closed descriptors, so that each round begins alike.
  fillers.push(...far.receivedFds.subarray(0, received));
  return { free, sent: sent.length, received, truncated };
});

for (const fd of fillers) closeSync(fd);
console.log(JSON.stringify(results));
