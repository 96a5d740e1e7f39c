import { chmodSync, rmSync } from "node:fs";
import { FerryError } from "../base/errors.ts";
import type { TimedEvent } from "../migration/hosts/events.ts";
import { compatibility } from "../migration/hosts/link-messages.ts";
import * as s from "../migration/hosts/shapes.ts";
import { POLLIN } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { acceptUnix, connectUnix, listenUnix } from "../sys/unix.ts";
import { askControl, controlOf } from "./control-line.ts";
import { readFields } from "./control-request.ts";
import type { Method } from "./control-socket.ts";
import { findBerth, type Host } from "./host.ts";
import { hostClock } from "./host-clock.ts";
import type { TellDevice } from "./migrations.ts";
import { isOurs } from "./peer.ts";
import type { ServedDevice } from "./served-device.ts";
import { swapBudgets } from "./swap-budgets.ts";
import { SwapLink } from "./swap-link.ts";
import { type Arrival, type Berthed, SwapSource } from "./swap-source.ts";
import { SwapTarget } from "./swap-target.ts";

/** How often it is looked whether the other server has refused before it has connected. */
const lookMs = 20;

const path = s.text(4096);
const swapRequest = {
  device: s.optional(path, ""),
  to: path,
  control: s.optional(path, ""),
} as const;
const arrivalRequest = {
  device: s.optional(path, ""),
  /** Where the side that has it listens. */
  from: path,
  compatibility,
  offer: s.dictionary(s.either<number, boolean>(s.amount, s.flag), 256),
} as const;
/** What is wrong where the device has come to; empty when nothing is. */
const arrivedShape = s.object({ trouble: s.sentence });

/** The methods of a control socket that swap; `own` is where this server is asked itself. */
export function swapMethods(
  host: Host,
  own: string,
  tell: TellDevice,
): Readonly<Record<string, Method>> {
  const tellOf = (device: ServedDevice) => {
    const startMs = hostClock.now();
    return (event: object): void =>
      tell(device.spec.name, { ...event, atMs: hostClock.now() - startMs } as TimedEvent);
  };
  let [leaves, comes] = [false, false];
  return {
    swap: async (request) => {
      const { device: from, to, control } = readFields("swap", swapRequest, request);
      const { device, socketPath } = findBerth(host.berths, from || undefined);
      const isHere = host.berths.some((berth) => berth.socketPath === to);
      const place = isHere ? { control: own, device: to } : controlOf(to);
      const there = control === "" ? place : { control, device: to };
      if (there.device === socketPath && there.device !== undefined) {
        throw new FerryError("usage", `${to} is the device itself: name another one.`);
      }
      if (leaves) throw oneAtATime();
      leaves = true;
      const call = (arrival: Arrival, cancel: AbortSignal): Promise<Berthed> =>
        callAt(there, `${own}.swap`, arrival, cancel);
      return await new SwapSource({ device, call, tell: tellOf(device) })
        .run()
        .finally(() => (leaves = false));
    },
    "swap-in": async (request) => {
      const { device: wanted, from, ...arrival } = readFields("swap-in", arrivalRequest, request);
      const { device } = findBerth(host.berths, wanted || undefined);
      if (comes) throw oneAtATime();
      comes = true;
      const dial = (): SwapLink => dialAt(from);
      const target = new SwapTarget({ device, arrival, dial, tell: tellOf(device) });
      const trouble = await target.run().finally(() => (comes = false));
      return { trouble };
    },
  };
}

/** Asks the other server and waits until it has connected to `meeting`. */
async function callAt(
  there: { readonly control: string; readonly device?: string },
  meeting: string,
  arrival: Arrival,
  cancel: AbortSignal,
): Promise<Berthed> {
  const listener = listenUnix(meeting, 1);
  try {
    chmodSync(meeting, 0o600);
    const { control, device } = there;
    const request = { method: "swap-in", device, from: meeting, ...arrival };
    const over = new AbortController();
    const enough = AbortSignal.any([cancel, over.signal]);
    const asked = askControl(control, request, { enough });
    const done = asked.then((answer) => arrivedShape(answer)?.trouble ?? noWord);
    if (!(await isCalled(listener, done))) {
      await Promise.race([done, Promise.resolve()]);
      throw new FerryError("too-late", "the other server did not connect in time.");
    }
    const socket = acceptUnix(listener);
    if (socket < 0) throw new FerryError("no-peer", "the other server has left again.");
    const leave = (): void => over.abort("it is over");
    if (isOurs(socket)) return { link: new SwapLink(socket), done, leave };
    closeFd(socket);
    throw new FerryError("not-ours", "another user's process connected: it gets no guest's state.");
  } finally {
    closeFd(listener);
    rmSync(meeting, { force: true });
  }
}

/** Somebody has called; false when the other side has answered without, or time is over. */
async function isCalled(listener: number, done: Promise<unknown>): Promise<boolean> {
  let over = false;
  const end = (): void => void (over = true);
  done.then(end, end);
  const poll = new PollSet(1);
  poll.add(listener, POLLIN);
  const endMs = hostClock.now() + swapBudgets.greetMs;
  try {
    while (!over && hostClock.now() < endMs) if ((await poll.waitAsync(lookMs)) > 0) return true;
    return false;
  } finally {
    poll.free();
  }
}

function dialAt(meeting: string): SwapLink {
  const socket = connectUnix(meeting);
  if (socket < 0) throw new FerryError("no-peer", "the server that has it is not there any more.");
  if (isOurs(socket)) return new SwapLink(socket);
  closeFd(socket);
  throw new FerryError(
    "not-ours",
    "another user's process listens there: nothing is taken from it.",
  );
}

const noWord = "the other server has not said how it ended.";
const oneAtATime = (): FerryError =>
  new FerryError("busy", "this server swaps another device at the moment: try again.");
