import type { Watch } from "../device/vfio-device.ts";
import { POLLIN, POLLOUT } from "../sys/constants.ts";
import { PollSet } from "../sys/poll.ts";
import type { Lane } from "./lane.ts";
import { watchesMax } from "./limits.ts";

const mainPlace = 0;
const twinPlace = 1;
const firstWatch = 2;

/** What a lane can use: bytes, while there is room for them, and room for what it has to send. */
const interest = ({ framer, outbox }: Lane): number =>
  (framer.room() > 0 ? POLLIN : 0) | (outbox.waiting > 0 ? POLLOUT : 0);

/** One look at everything that a session waits for: its sockets and its device's descriptors. */
export class Lookout {
  readonly #poll = new PollSet(firstWatch + watchesMax);
  #watches: readonly Watch[] = [];
  #watched = 0;

  /** Waits until something is ready: how much is, 0 after `timeoutMs`, or a negated errno. */
  wait(main: Lane | null, twin: Lane | null, watches: readonly Watch[], timeoutMs: number): number {
    const poll = this.#poll;
    this.#watches = watches;
    this.#watched = Math.min(watches.length, watchesMax);
    poll.clear();
    poll.add(main?.channel.fd ?? -1, main === null ? 0 : interest(main));
    poll.add(twin?.channel.fd ?? -1, twin === null ? 0 : interest(twin));
    for (let i = 0; i < this.#watched; i++) poll.add(watches[i]?.fd ?? -1, POLLIN);
    return poll.wait(timeoutMs);
  }

  /** Tells the watches whose descriptor the last wait found ready. */
  tell(): void {
    for (let i = 0; i < this.#watched; i++) {
      if (this.#poll.ready(firstWatch + i) !== 0) this.#watches[i]?.ready();
    }
  }

  /** True when the main lane, or the twin, has bytes or an end to be received. */
  get mainReady(): boolean {
    return (this.#poll.ready(mainPlace) & ~POLLOUT) !== 0;
  }

  get twinReady(): boolean {
    return (this.#poll.ready(twinPlace) & ~POLLOUT) !== 0;
  }
}
