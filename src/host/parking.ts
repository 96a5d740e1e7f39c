import { errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import type { VfioDevice, Wiring } from "../device/vfio-device.ts";
import { masterNames } from "../migration/hosts/refusals.ts";
import type { Migratable } from "../migration/migratable.ts";
import type { Session } from "../server/session.ts";
import type { ParkedDevice } from "./mail.ts";
import type { Reply } from "./migration-desk.ts";

/** How long a client has to take what messages write that cannot be begun anew. */
export const restMsMax = 500;

const unwired: Wiring = { mappings: [], irqs: [], ioEventfds: [], files: [] };

/** What is parked; `migratable` is null for a device that nobody can migrate. */
export interface ParkingParts {
  readonly device: VfioDevice;
  readonly migratable: Migratable | null;
  readonly session: Session;
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number;
}

/** Who waits for it and how long at most; what the session is to do afterwards. */
interface Asked {
  readonly reply: Reply;
  readonly untilMs: number;
  readonly waits: boolean;
}

/**
 * Parks a device for a successor, as soon as that ends nothing that could not run again. A client
 * that takes nothing keeps nobody waiting for long.
 */
export class Parking {
  readonly #parts: ParkingParts;
  #asked: Asked | null = null;

  constructor(parts: ParkingParts) {
    this.#parts = parts;
  }

  ask(reply: Reply): void {
    const { session, now } = this.#parts;
    this.#asked = { reply, untilMs: now() + restMsMax, waits: session.waits };
    session.waits = false;
  }

  /** Is somebody waiting, and need not any longer? */
  get due(): boolean {
    if (this.#asked === null) return false;
    const { device, session, now } = this.#parts;
    const rests = !session.connected || (device.rest?.(true) ?? true);
    return rests || now() >= this.#asked.untilMs;
  }

  /** Parks it if that is due: who has asked gets the device, or why it stays and goes on. */
  turn(): void {
    if (this.#asked === null || !this.due) return;
    const { device, session } = this.#parts;
    const { reply, waits } = this.#asked;
    this.#asked = null;
    session.waits = waits;
    try {
      reply.answer(this.#park());
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
      reply.refuse(thrown);
    }
    device.rest?.(false);
  }

  /** The device at rest; its client, if there is one, waits. */
  #park(): ParkedDevice {
    const { device, migratable, session } = this.#parts;
    const master = migratable?.master ?? "none";
    if (master !== "none") throw notParkable(device, `: ${masterNames[master]} moves it`);
    if (session.isRemote) throw remoteClient(device, "parked");
    const wiring = session.connected ? device.park() : null;
    if (device.state === null || (session.connected && wiring === null)) throw notParkable(device);
    const connection = session.connected ? session.export() : null;
    return { connection, wiring, state: device.state.slice() };
  }
}

const notParkable = ({ name }: VfioDevice, why = ""): FerryError =>
  new FerryError("not-parkable", `${name} cannot be parked now${why}.`);

/** Its client is on another host: `what` cannot be done with the device. */
export const remoteClient = ({ name }: VfioDevice, what: string): FerryError =>
  new FerryError("busy", `the client of ${name} is on another host: it cannot be ${what}.`);

/** Goes on with a parked device's wiring and state, without its client yet. */
export function install(
  device: VfioDevice,
  { wiring, state }: Pick<ParkedDevice, "wiring" | "state">,
): void {
  const result = device.takeUp(wiring ?? unwired, state);
  if (result >= 0) return;
  const reason = errnoName(result);
  throw new FerryError("not-taken", `${device.name} refused a parked state: ${reason}.`);
}
