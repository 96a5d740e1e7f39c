/** What a migration tells, as lines for people. */
import type { TimedEvent } from "../migration/hosts/events.ts";
import { bytesText, rateText, timeText } from "../migration/hosts/report-text.ts";

/** The line of an event; null for one that is told later, by the report. */
export function eventLine(event: TimedEvent): string | null {
  const said = sentence(event);
  return said === null ? null : `${timeText(event.atMs).padStart(9)}  ${said}`;
}

function sentence(event: TimedEvent): string | null {
  switch (event.kind) {
    case "phase":
      if (event.step === "ends") return null;
      if (event.step === "begins") return event.phase;
      return `${event.phase} ${event.step}${event.why === undefined ? "" : `: ${event.why}`}`;
    case "paused":
      return `paused before ${event.before}: stop the vCPUs, then say ferry migrate continue`;
    case "progress": {
      const { bytes, rate, rounds, dirtyBytes } = event;
      const round = rounds > 0 ? `, round ${rounds}, ${bytesText(dirtyBytes)} left` : "";
      return `  ${bytesText(bytes)} at ${rateText(rate)}${round}`;
    }
    case "undecided":
      // The first time and then ever less often: an operator reads this, and may have to act.
      if ((event.asked & (event.asked - 1)) !== 0) return null;
      return `undecided: ${event.why} Nobody runs; asking again (ferry migrate resolve ends it).`;
    case "note":
      return `note: ${event.why}`;
    case "verdict":
      return null;
  }
}
