import type { FrameType } from "./link-messages.ts";

/** What travels over a link: a byte that says what it is, and its payload. */
export interface Frame {
  readonly type: FrameType;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/**
 * A way to the other side: frames arrive whole, in order, or not at all. It may be lost at any
 * moment, without a word, and what was sent before may have arrived or not.
 */
export interface Link {
  /** Who the other side is, as the link has verified it. */
  readonly peer: string;
  /** Further names of it that are verified as well. */
  readonly otherNames?: readonly string[];
  /**
   * Done when it is on its way, not when it has arrived: its payload may be used again then.
   * Rejects when the link is lost. Several may wait at once: frames go out as they were given.
   */
  send(frame: Frame): Promise<void>;
  /** The next frame; null when there will be no more. It is asked for one at a time. */
  receive(): Promise<Frame | null>;
  /** Takes the memory of a payload back, so that a later one is read into it. */
  recycle?(payload: Uint8Array<ArrayBuffer>): void;
  /** Ends it. What was sent still goes out, if the other side takes it. */
  close(): void;
}
