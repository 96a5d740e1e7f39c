/** When something goes wrong: a table of moments, each of which the world tells of by its name. */
import { decisions } from "../src/migration/hosts/journal.ts";
import type { Effect } from "./effects.ts";

/** Something that goes wrong once, at a moment. */
export interface Fault {
  readonly moment: string;
  /** How many such moments pass before. */
  after: number;
  readonly effect: Effect;
}

const said = ["hello", "data", "end", "commit", "released", "query", "abort"];
const answered = ["accept", "validated", "own", "refuse", "answer"];
const phases = [
  ...["precheck", "precopy", "freeze", "save", "transfer", "hand over"],
  ...["offer", "receive", "validate", "commit", "thaw", "own"],
];
const asked = [
  ...["claim", "still", "move", "read", "write", "seal", "unseal", "abort", "reset", "release"],
];

/** Around the decision, where it matters most. */
export const decisiveMoments: readonly string[] = [
  ...["validate ends", "commit begins", "hand over begins", "asks seal"],
  ...["target says validated", "source hears validated", "source says commit"],
  ...["target hears commit", "target says own", "source hears own", "undecided"],
  ...["deciding", "kept", "own", "gone"].flatMap((name) => [
    `writes ${name}`,
    `has written ${name}`,
  ]),
];

/** Any moment at all. */
export const moments: readonly string[] = [
  ...said.flatMap((name) => [`source says ${name}`, `target hears ${name}`]),
  ...answered.flatMap((name) => [`target says ${name}`, `source hears ${name}`]),
  ...Object.keys(decisions).flatMap((name) => [`writes ${name}`, `has written ${name}`]),
  ...phases.flatMap((name) => [`${name} begins`, `${name} ends`]),
  ...asked.map((name) => `asks ${name}`),
  ...["is connected", "undecided"],
];
