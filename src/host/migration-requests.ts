/** What an operator asks of a device's migration, as tables that refuse what makes no sense. */
import { defaultBudgets } from "../migration/hosts/budgets.ts";
import { name, token } from "../migration/hosts/link-messages.ts";
import { offerMs } from "../migration/hosts/offers.ts";
import { pausePoints } from "../migration/hosts/pause.ts";
import { defaultPolicy } from "../migration/hosts/precopy.ts";
import * as s from "../migration/hosts/shapes.ts";
import { readFields } from "./control-request.ts";
import { parseAddress } from "./links/address.ts";
import type { Place } from "./links/link-factory.ts";

const address = s.text(1024);
const folder = s.optional(s.text(4096), "");

/** The target of a device: where it is, what proves who it is, and what it has given out. */
const destination = {
  to: address,
  /** Empty for a file, which has given out none. */
  token: s.optional(token, ""),
  pki: folder,
  /** Empty: the host's name in the address. */
  peer: s.optional(name, ""),
} as const;

/** The migration that an operator has looked at; empty: whichever goes on. */
const meant = { token: s.optional(token, "") } as const;

const requests = {
  migrate: {
    ...destination,
    precopy: s.optional(s.flag, defaultPolicy.precopy),
    bandwidth: s.optional(s.whole(), defaultPolicy.bandwidth),
    downtimeMs: s.optional(s.whole(), defaultPolicy.downtimeMs),
    roundsMax: s.optional(s.whole(1_000_000), defaultPolicy.roundsMax),
    precopyMaxMs: s.optional(s.whole(), defaultPolicy.precopyMaxMs),
    onLimit: s.optional(s.oneOf("stop", "abort"), defaultPolicy.onLimit),
    pauseBefore: s.optional(s.list(s.oneOf(...pausePoints), pausePoints.length), []),
    pauseMs: s.optional(s.whole(), defaultBudgets.pauseMs),
    vcpusStopped: s.optional(s.flag, false),
    /** For a VMM that copies memory itself and does not hear what the device writes to it. */
    showWrites: s.optional(s.flag, false),
    /** With it: all that is written is sent to the VMM, because the guest unmaps memory. */
    sendWrites: s.optional(s.flag, false),
  },
  precheck: destination,
  offer: {
    /** The host that may send its device, by the name in its certificate. */
    from: name,
    listen: address,
    pki: folder,
    lastsMs: s.optional(s.whole(), offerMs),
    thaw: s.optional(s.oneOf("at once", "when told"), "at once"),
  },
  load: {
    from: address,
    thaw: s.optional(s.oneOf("at once", "when told"), "at once"),
  },
  /** Empty: the pause that is on. */
  continue: { before: s.optional(s.oneOf("", ...pausePoints), "") },
  abort: { ...meant, reason: s.optional(s.sentence, "an operator has ended it.") },
  resolve: { ...meant, owner: s.oneOf("here", "there") },
} as const;

/** The requests by name, as their tables have them. */
export type Requests = {
  readonly [K in keyof typeof requests]: s.ReadFields<(typeof requests)[K]>;
};

/** A request as its table has it; a FerryError names the field that is not. */
export function readRequest<K extends keyof Requests>(method: K, request: object): Requests[K] {
  return readFields(method, requests[method], request) as Requests[K];
}

/** The other side as it is named, of which what was left empty is not known. */
export function placeOf({
  to,
  pki,
  peer,
}: Pick<Requests["precheck"], "to" | "pki" | "peer">): Place {
  return {
    address: parseAddress(to),
    pki: pki === "" ? undefined : pki,
    peer: peer === "" ? undefined : peer,
  };
}
