import type { Budgets } from "../migration/hosts/budgets.ts";
import type { Link } from "../migration/hosts/link.ts";
import { ShowingPort } from "../migration/hosts/showing-port.ts";
import { Source } from "../migration/hosts/source.ts";
import type { SourceParts, SourceRequest } from "../migration/hosts/source-parts.ts";
import { StandingPort, standing } from "../migration/hosts/standing-port.ts";
import type { Target } from "../migration/hosts/target.ts";
import type { LinkFactory, Place } from "./links/link-factory.ts";
import type { Requests } from "./migration-requests.ts";

/** What of a request is no matter of the source's own. */
export type Surroundings = Partial<
  Pick<Requests["migrate"], "pauseMs" | "showWrites" | "sendWrites">
>;

/** What a device leaves with. */
export interface DepartureParts extends Omit<SourceParts, "dial"> {
  readonly budgets: Budgets;
  readonly links: LinkFactory;
  /** The target that it came to this host by, if it stands still here until it is set going. */
  readonly waiting: Target | undefined;
}

/** The source of a device's migration to `place`, with its port as the request wants it. */
export function departure(
  { links, waiting, ...parts }: DepartureParts,
  place: Place,
  request: SourceRequest,
  { pauseMs = parts.budgets.pauseMs, showWrites, sendWrites }: Surroundings,
): Source {
  const { port: own, tell } = parts;
  const shown = (pages: number): void =>
    tell({ kind: "note", why: `its VMM was shown ${pages} pages.` });
  const here = waiting === undefined ? own : new StandingPort(own, () => waiting.left());
  const watch = sendWrites === true ? "sent" : "kept";
  const port = showWrites === true ? new ShowingPort(here, watch, shown) : here;
  const dial = (): Promise<Link> => links.dial(place);
  const how = { ...request, ...(waiting && standing) };
  return new Source({ ...parts, port, budgets: { ...parts.budgets, pauseMs }, dial }, how);
}
