import type { Mutation } from "../mutation.ts";
import {
  believesTables,
  cutsOutput,
  disarms,
  forgetsPhase,
  grantsVeto,
  keepsMailbox,
  leavesMailbox,
  leavesQueue,
  losesLast,
  raisesNothing,
} from "./accelerator.ts";
import {
  forgetsDeciding,
  ownsTooEarly,
  resumesWhenCut,
  takesSilenceForCommit,
  thawsTooEarly,
} from "./decision.ts";
import {
  answersForGone,
  holdsTooLong,
  leavesHalf,
  leavesHold,
  losesLoaded,
  overlooksReset,
} from "./device.ts";
import { believesAnyEnd, takesTokenTwice } from "./shared.ts";

/** Every bug that can be put in. */
export const mutations: readonly Mutation[] = [
  forgetsDeciding,
  ownsTooEarly,
  resumesWhenCut,
  thawsTooEarly,
  takesSilenceForCommit,
  takesTokenTwice,
  leavesHold,
  leavesHalf,
  overlooksReset,
  answersForGone,
  losesLoaded,
  holdsTooLong,
  believesAnyEnd,
  forgetsPhase,
  losesLast,
  disarms,
  leavesQueue,
  raisesNothing,
  keepsMailbox,
  leavesMailbox,
  grantsVeto,
  believesTables,
  cutsOutput,
];
