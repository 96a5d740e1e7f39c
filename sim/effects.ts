/** What goes wrong, as a table: each strikes at once, and is repaired after a time. */
import * as raw from "../src/client/raw-requests.ts";
import type { Frame } from "../src/migration/hosts/link.ts";
import { decode, encode } from "../src/migration/hosts/link-messages.ts";
import type { Host } from "./host.ts";
import type { Trip } from "./trip.ts";
import type { Wire } from "./wire.ts";
import type { World } from "./world.ts";

export interface Effect {
  readonly name: string;
  /** When it makes a difference; at any time unless told. */
  readonly when?: readonly string[];
  /** `wire` is the link that the moment was about, if it was about one. */
  readonly strike: (world: World, trip: Trip, wire: Wire | null) => void;
}

/** Before the stream has passed. */
const early = ["is connected", "source says hello", "target says accept", "freeze begins"];
/** While the state is at the target, and the device not yet its. */
const loaded = ["validate begins", "validate ends", "target says validated", "source says commit"];
const repairMsMax = 60_000;
/** A shorter piece of the stream is its last one. */
const pieceBytes = 48 * 1024;
/** The section with which a stream ends. */
const endBytes = 40;

/** Undoes something after a while, from nothing to longer than anybody is patient. */
const later = ({ clock, random }: World, repair: () => void): void => {
  const ms = random.oneIn(2) ? random.below(3000) : random.below(repairMsMax);
  clock.after(ms, repair);
};

const dies = (which: "from" | "to") => (world: World, trip: Trip) => {
  const host = trip[which];
  host.crash();
  later(world, () => host.restart());
};

const disk = (which: "from" | "to", trouble: "full" | "broken") => (world: World, trip: Trip) => {
  const host = trip[which];
  host.disk.trouble = trouble;
  if (trouble === "full") later(world, () => repairDisk(host));
  else later(world, () => restart(host));
};

const repairDisk = (host: Host): void => {
  if (host.disk.trouble === "full") host.disk.trouble = "none";
};

/** What a journal that takes nothing more asks for. */
const restart = (host: Host): void => {
  host.crash();
  host.restart();
};

/** What the device depends on fails for a while. */
const upset = (which: "from" | "to") => (world: World, trip: Trip) => {
  const { machine } = trip[which];
  machine.upset();
  later(world, () => machine.calm());
};

const onWire = (act: (wire: Wire, world: World) => void) => {
  return (world: World, trip: Trip, wire: Wire | null) => {
    const chosen = wire ?? trip.wire;
    if (chosen !== null) act(chosen, world);
  };
};

/** Changes one bit of a piece of the stream. */
function flipped(frame: Frame, world: World): Frame {
  if (decode(frame)?.say !== "data") return frame;
  const payload = frame.payload.slice();
  const at = world.random.below(payload.length);
  payload[at] = (payload[at] ?? 0) ^ (1 << world.random.below(8));
  return { ...frame, payload };
}

/** Leaves the end of the stream out, and says that it was all. */
function shortener(): (frame: Frame) => Frame {
  let bytes = 0;
  return (frame) => {
    const message = decode(frame);
    if (message?.say === "end") return encode({ say: "end", bytes });
    if (message?.say !== "data") return frame;
    const isLast = message.bytes.length < pieceBytes;
    const payload = isLast ? message.bytes.slice(0, -endBytes) : message.bytes;
    bytes += payload.length;
    return { ...frame, payload };
  };
}

/** The VMM of the target does with its device what it likes: that is not the guest's yet. */
const targetVmm = (act: (world: World, trip: Trip) => void) => (world: World, trip: Trip) => {
  if (world.owner.host !== trip.to && trip.to.alive) act(world, trip);
};

export const effects: readonly Effect[] = [
  { name: "the link is cut", strike: onWire((wire) => wire.cut()) },
  { name: "the target hears nothing more", strike: onWire((wire) => wire.silence(["target"])) },
  { name: "the source hears nothing more", strike: onWire((wire) => wire.silence(["source"])) },
  { name: "nobody hears anything", strike: onWire((wire) => wire.silence(["source", "target"])) },
  {
    name: "the link is slow",
    strike: onWire((wire, { random }) => {
      wire.delayMs = random.pick([200, 1500, 4000, 9000]);
    }),
  },
  { name: "the source dies", strike: dies("from") },
  { name: "the target dies", strike: dies("to") },
  {
    name: "both die",
    strike: (world, trip) => {
      dies("from")(world, trip);
      dies("to")(world, trip);
    },
  },
  { name: "the source's disk is full", strike: disk("from", "full") },
  { name: "the target's disk is full", strike: disk("to", "full") },
  { name: "the source's disk breaks", strike: disk("from", "broken") },
  { name: "the target's disk breaks", strike: disk("to", "broken") },
  { name: "the source's PF fails", strike: upset("from") },
  { name: "the target's PF fails", strike: upset("to") },
  {
    name: "the target cannot be reached",
    strike: (world, trip, wire) => {
      trip.to.reachable = false;
      (wire ?? trip.wire)?.cut();
      later(world, () => {
        trip.to.reachable = true;
      });
    },
  },
  {
    name: "the stream is damaged",
    when: early,
    strike: (world, trip) => trip.tamper((frame) => flipped(frame, world)),
  },
  {
    name: "the stream is cut short",
    when: early,
    strike: (_, trip) => trip.tamper(shortener()),
  },
  {
    name: "an operator aborts at the source",
    strike: (_, trip) => trip.abort(trip.from),
  },
  { name: "an operator aborts at the target", strike: (_, trip) => trip.abort(trip.to) },
  { name: "an operator wants it resolved", strike: (_, trip) => trip.resolveSoon() },
  {
    name: "the target's VMM resets its device",
    when: [...loaded, "receive begins"],
    strike: targetVmm((_, trip) => void trip.vmm?.request(raw.deviceReset())),
  },
  {
    name: "the target's VMM connects anew",
    when: [...loaded, "offer begins"],
    strike: targetVmm((_, trip) => trip.reconnect()),
  },
];
