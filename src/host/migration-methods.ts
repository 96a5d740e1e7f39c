import { Announcements } from "./announcements.ts";
import type { Method } from "./control-socket.ts";
import type { MigrationControl } from "./migration-control.ts";

/** Answers with nothing but that it was done. */
const done = async (work: Promise<void> | void): Promise<object> => {
  await work;
  return { done: true };
};

/** Work that tells of itself; the last that is told comes before its answer. */
async function told<T>(
  emit: (event: unknown) => void,
  work: (hear: Announcements["tell"]) => Promise<T>,
): Promise<T> {
  const announcements = Announcements.toListener(emit);
  return await work(announcements.tell).finally(() => announcements.flush());
}

/** The methods of a control socket that migrate; `find` has the device that a request names. */
export function migrationMethods(
  find: (device: unknown) => MigrationControl,
): Readonly<Record<string, Method>> {
  return {
    migrate: (request, emit) =>
      told(emit, (hear) => find(request["device"]).migrate(request, hear)),
    "migrate-offer": (request) => find(request["device"]).offer(request),
    "migrate-load": (request, emit) =>
      told(emit, (hear) => find(request["device"]).load(request, hear)),
    "migrate-precheck": (request) => find(request["device"]).precheck(request),
    "migrate-status": ({ device }) => find(device).status(),
    "migrate-continue": async (request) => await done(find(request["device"]).continue(request)),
    "migrate-abort": (request) => done(find(request["device"]).abort(request)),
    "migrate-thaw": ({ device }) => done(find(device).thaw()),
    "migrate-reset": ({ device }) => done(find(device).reset()),
    "migrate-resolve": (request) => done(find(request["device"]).resolve(request)),
    /** Streams until whoever asked has gone. */
    "migrate-events": ({ device }, emit, gone) =>
      told(emit, async (hear) => {
        const stop = find(device).events(hear);
        await new Promise((resolve) => gone.addEventListener("abort", resolve));
        stop();
        return { done: true };
      }),
  };
}
