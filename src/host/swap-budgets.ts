import { type Budgets, defaultBudgets } from "../migration/hosts/budgets.ts";

/**
 * The waits of a swap. A VMM waits for a register 5 s at most and stalls as a whole meanwhile; both
 * servers are on this machine, so whoever takes so long will not do it at all.
 */
export const swapBudgets: Budgets = {
  ...defaultBudgets,
  holdMs: 2000,
  freezeMs: 1000,
  saveMs: 2000,
  transferMs: 2000,
  undoMs: 1000,
  validateMs: 2000,
  thawMs: 2000,
};
