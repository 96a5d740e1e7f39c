/** Linear interpolation between the two nearest ranks; `values` may be in any order. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (sorted.length - 1) * q;
  const below = Math.floor(rank);
  const low = sorted[below];
  const high = sorted[Math.min(below + 1, sorted.length - 1)];
  if (low === undefined || high === undefined) return Number.NaN;
  return low + (high - low) * (rank - below);
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
