import type { Context } from "./context.ts";
import type { Offer } from "./offer.ts";

/** What a server did was not what the document asks; ends the case that found it. */
export class Mismatch extends Error {
  override readonly name = "Mismatch";
  readonly expected: string;
  readonly came: string;

  constructor(expected: string, came: string) {
    super(`expected ${expected}, came ${came}`);
    this.expected = expected;
    this.came = came;
  }
}

/** Why a server cannot be asked, or null when it can: what a case needs of it. */
export type Need = (offer: Offer) => string | null;

/** One thing that every server does, with where the document says so. */
export interface Case {
  /** `dma-map/overlap`: stable, for scripts. */
  readonly id: string;
  /** What it is about: a command, or `framing`. */
  readonly command: string;
  /** The section of the vfio-user document. */
  readonly section: string;
  /** A sentence: what holds. */
  readonly title: string;
  readonly needs: readonly Need[];
  /** Asks the server; throws {@link Mismatch} when it does something else. */
  run(context: Context): void;
}

/** A case as a file of cases writes it; what its neighbours share is left out. */
export interface CaseEntry {
  readonly id: string;
  readonly title: string;
  readonly section?: string;
  readonly needs?: readonly Need[];
  run(context: Context): void;
}

/** The cases of one command, which share a section and what they need unless they say otherwise. */
export function casesOf(
  command: string,
  section: string,
  needs: readonly Need[],
  entries: readonly CaseEntry[],
): Case[] {
  return entries.map((entry) => ({
    section,
    ...entry,
    id: `${command}/${entry.id}`,
    command,
    needs: [...needs, ...(entry.needs ?? [])],
    run: (context) => entry.run(context),
  }));
}
