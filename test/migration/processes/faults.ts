/** What goes wrong in a migration: who, what, and when. A seed chooses rows of the table. */
import type { Said } from "../../support/link-relay.ts";

export type Link = "unix" | "tls";

/** When a fault strikes. */
export type Moment =
  | { readonly kind: "pause"; readonly before: "freeze" | "transfer" }
  | { readonly kind: "phase"; readonly side: "source" | "target"; readonly phase: string }
  /** A message is on its way, or has just been passed on. */
  | { readonly kind: "message"; readonly said: Said; readonly step: "arrives" | "taken" }
  /** So many pieces have passed on a link that nobody can read. */
  | { readonly kind: "pieces"; readonly count: number };

/** Who fails, and in which ways. */
const ways = {
  source: ["is killed", "is stopped for a moment", "is stopped for long"],
  target: ["is killed", "is stopped for a moment", "is stopped for long"],
  guest: ["is killed", "is stopped for a moment", "is stopped for long"],
  link: ["is cut", "is cut for good", "is silent for a moment", "is silent for long"],
  "source's disk": ["is full", "is full within a line"],
  "target's disk": ["is full", "is full within a line"],
} as const;
export type Who = keyof typeof ways;
export type What = (typeof ways)[Who][number];

export interface Fault {
  readonly who: Who;
  readonly what: What;
  readonly when: Moment;
}

const pauses = (["freeze", "transfer"] as const).map(
  (before): Moment => ({ kind: "pause", before }),
);
const phasesOf = {
  source: ["precheck", "precopy", "freeze", "save", "transfer", "hand over"],
  target: ["offer", "receive", "validate", "commit", "thaw", "own"],
} as const;
const phases = (["source", "target"] as const).flatMap((side) =>
  phasesOf[side].map((phase): Moment => ({ kind: "phase", side, phase })),
);
const said = ["hello", "accept", "data", "end", "validated", "commit", "own", "released"] as const;
const messages = said.flatMap((each) =>
  (["arrives", "taken"] as const).map((step): Moment => ({ kind: "message", said: each, step })),
);
/** A migration over TLS has more pieces than that. */
const pieces = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14].map(
  (count): Moment => ({ kind: "pieces", count }),
);
const moments: readonly Moment[] = [...pauses, ...phases, ...messages, ...pieces];

/** Every row. */
export const faults: readonly Fault[] = (Object.keys(ways) as Who[]).flatMap((who) =>
  ways[who].flatMap((what) => moments.map((when): Fault => ({ who, what, when }))),
);

/** Those that pass soon. */
export const quickFaults = faults.filter(
  ({ what }) => what === "is killed" || what === "is cut" || what.endsWith("for a moment"),
);

export const linkOf = ({ when }: Fault): Link => (when.kind === "pieces" ? "tls" : "unix");

function momentText(when: Moment): string {
  switch (when.kind) {
    case "pause":
      return `at the pause before ${when.before}`;
    case "phase":
      return `when the ${when.side}'s ${when.phase} begins`;
    case "message":
      return `when ${when.said.toUpperCase()} ${when.step === "arrives" ? "comes" : "was taken"}`;
    case "pieces":
      return `after ${when.count} pieces over TLS`;
  }
}

/** `target is killed when COMMIT comes`. */
export const faultText = ({ who, what, when }: Fault): string =>
  `${who} ${what} ${momentText(when)}`;

/** Numbers from 0 to 1, the same ones for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** So many rows, no one twice while there are others; the same ones for the same seed. */
export function chooseFaults(seed: number, count: number, from = faults): Fault[] {
  const random = randomFrom(seed);
  const chosen: Fault[] = [];
  let left: Fault[] = [];
  while (chosen.length < count) {
    if (left.length === 0) left = [...from];
    chosen.push(...left.splice(Math.floor(random() * left.length), 1));
  }
  return chosen;
}
