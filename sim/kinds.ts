import { hello } from "./hello/kind.ts";
import type { Kind } from "./kind.ts";
import { sec2 } from "./sec2/kind.ts";

/** Devices that move in simulations; seeds take turns with them. */
export const kinds: readonly Kind[] = [hello, sec2];

export const kindOf = (seed: number): Kind => kinds[seed % kinds.length] as Kind;
