import { median, quantile } from "../statistics.ts";
import type { Contest } from "./contest.ts";

/** Requests a second of one round. */
export interface Round {
  /** Of node's own library. */
  readonly direct: number;
  /** Of the device in this process. */
  readonly local: number;
  /** Of the device behind its socket, by its server's processor time. */
  readonly remote: number;
}

/** Of rates the 90th percentile counts: what else a machine does only takes away from them. */
const undisturbed = 0.9;

/** Rates, and medians of the shares; those are taken round by round, as in `table.ts`. */
export interface Summary extends Round {
  readonly localShare: number;
  readonly remoteShare: number;
  readonly kept: boolean;
}

export function summarize({ promised }: Contest, rounds: readonly Round[]): Summary {
  const rate = (side: keyof Round): number =>
    quantile(
      rounds.map((round) => round[side]),
      undisturbed,
    );
  const share = (side: "local" | "remote"): number =>
    median(rounds.map((round) => round[side] / round.direct));
  const [local, localShare] = [rate("local"), share("local")];
  return {
    direct: rate("direct"),
    local,
    remote: rate("remote"),
    localShare,
    remoteShare: share("remote"),
    kept: localShare >= (promised?.share ?? 0) && local >= (promised?.perSecond ?? 0),
  };
}

const nameWidth = 28;
const width = 10;
const shareWidth = 8;

/** Above the lines of one accelerator. */
export function renderHead(name: string, depth: number): string {
  const titles = [
    ["bytes", width],
    ["node /s", width],
    ["device /s", width],
    ["MB/s", width],
    ["share", shareWidth],
    ["server /s", width + 1],
    ["share", shareWidth],
  ] as const;
  const cells = titles.map(([title, columns]) => title.padStart(columns)).join("");
  return `\n${`${name}, depth ${depth}`.padEnd(nameWidth)}${cells}   promise`;
}

function promiseText({ promised }: Contest, { kept }: Summary): string {
  if (promised === undefined) return "";
  const { share, perSecond } = promised;
  const text = share === undefined ? `>= ${perSecond}/s` : `>= ${share.toFixed(2)} x`;
  return `   ${text} ${kept ? "pass" : "MISSED"}`;
}

export function renderLine(contest: Contest, summary: Summary): string {
  const rate = (value: number): string => value.toFixed(0).padStart(width);
  const share = (value: number): string => `${value.toFixed(2)} x`.padStart(shareWidth);
  return [
    contest.name.padEnd(nameWidth),
    String(contest.bytes).padStart(width),
    rate(summary.direct),
    rate(summary.local),
    ((summary.local * contest.bytes) / 1e6).toFixed(1).padStart(width),
    share(summary.localShare),
    ` ${rate(summary.remote)}`,
    share(summary.remoteShare),
    promiseText(contest, summary),
  ].join("");
}
