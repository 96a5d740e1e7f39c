/** Every wait of a migration between hosts, in milliseconds. Whoever starts one may change them. */
export interface Budgets {
  /** Until there is a link. */
  readonly connectMs: number;
  /** Until the other side has said what it is there for, or whether it takes the device. */
  readonly greetMs: number;
  /** All of PRE_COPY, whatever the policy says. */
  readonly precopyMs: number;
  /** A pause that somebody else has to end. */
  readonly pauseMs: number;
  /** Stopping access; the device's own time for it is shorter. */
  readonly freezeMs: number;
  /** Stopping the device and reading what it has to say. */
  readonly saveMs: number;
  /** Sending the rest, until the target has validated it. */
  readonly transferMs: number;
  /** What vCPUs that were not stopped may wait for a register; far below a VMM's 5 s. */
  readonly holdMs: number;
  /** Target: the whole stream. */
  readonly receiveMs: number;
  /** Target: checking and loading. */
  readonly validateMs: number;
  /** Target: how long a validated state is kept for the source's COMMIT. */
  readonly commitMs: number;
  /** Target: setting the device going. */
  readonly thawMs: number;
  /** Target: how long whoever goes on with a device that runs is left alone before OWN is said. */
  readonly ownAfterMs: number;
  /** From COMMIT to OWN on the same link; after that the source asks on another one. */
  readonly ownMs: number;
  /** Target: until the source has let go. Nothing depends on it. */
  readonly releaseMs: number;
  /** One step back. */
  readonly undoMs: number;
  /** How often each side shows that it is there, and how long it may show nothing. */
  readonly pingMs: number;
  readonly silenceMs: number;
  /** Source, undecided: the first wait before it asks again; it doubles up to the last. */
  readonly askFirstMs: number;
  readonly askLastMs: number;
  /** How often progress is told. */
  readonly progressMs: number;
}

const second = 1000;
const minute = 60 * second;

/** What holds unless a caller has set it. */
export const defaultBudgets: Budgets = {
  connectMs: 10 * second,
  greetMs: 10 * second,
  precopyMs: 30 * minute,
  pauseMs: 2 * minute,
  freezeMs: 5 * second,
  saveMs: 30 * second,
  transferMs: 10 * minute,
  holdMs: 3 * second,
  receiveMs: 45 * minute,
  validateMs: 30 * second,
  commitMs: 30 * second,
  thawMs: 10 * second,
  ownAfterMs: 5,
  ownMs: 20 * second,
  releaseMs: 10 * second,
  undoMs: 10 * second,
  pingMs: second,
  silenceMs: 5 * second,
  askFirstMs: 250,
  askLastMs: 10 * second,
  progressMs: 500,
};
