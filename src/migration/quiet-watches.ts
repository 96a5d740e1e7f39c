import type { Watch } from "../device/vfio-device.ts";

/** A device's watches without its doorbells, made anew only when they have changed. */
export class QuietWatches {
  #of: readonly Watch[] = [];
  #quiet: readonly Watch[] = [];

  without(watches: readonly Watch[]): readonly Watch[] {
    if (watches !== this.#of) {
      this.#of = watches;
      this.#quiet = watches.filter(({ doorbell }) => doorbell !== true);
    }
    return this.#quiet;
  }
}
