/** What a served process says of itself to whoever wants to succeed it. */
import { FerryError } from "../base/errors.ts";
import * as s from "../migration/hosts/shapes.ts";
import { listenersMax } from "./acceptor.ts";
import { askControl } from "./control-line.ts";
import type { DeviceSpec } from "./mail.ts";

/** How a process is handed over; two processes with different numbers do not try. */
export const handoverFormat = 1;

/** How long an answer to a short question may take. */
const answerMs = 10_000;

/** How a process has come to its devices: from which one, and for how long clients waited. */
export interface Succession {
  readonly version: string;
  readonly pid: number;
  readonly waitedMs: number;
}

/** Which process it is, and what it serves. */
export interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly pid: number;
  readonly devices: readonly DeviceSpec[];
  /** The folder of the journals; empty where each lies beside its socket. */
  readonly journal: string;
  /** Does it log JSON lines? */
  readonly json: boolean;
  /** Does a service manager follow it (NOTIFY_SOCKET)? */
  readonly managed: boolean;
}

const pathShape = s.text(4096);

const specShape: s.Reader<DeviceSpec> = (value) => {
  const read = s.object({
    name: pathShape,
    module: pathShape,
    options: s.dictionary(pathShape, 256),
    driver: s.optional(pathShape, ""),
  })(value);
  if (read === undefined) return undefined;
  const { driver, ...spec } = read;
  return driver === "" ? spec : { ...spec, driver };
};

/** What every version says, and what those say that hand over in this format. */
const anyShape = s.object({
  format: s.optional(s.whole(), 0),
  version: s.optional(s.text(64), ""),
});
const manifestShape: s.Reader<Manifest> = s.object({
  format: s.whole(),
  version: s.text(64),
  pid: s.whole(),
  devices: s.list(specShape, listenersMax),
  journal: s.optional(pathShape, ""),
  json: s.optional(s.flag, false),
  managed: s.optional(s.flag, false),
});

/** Names a version for people; the oldest ones say none. */
const versionText = (version: string): string =>
  version === "" ? "an unknown version" : `version ${version}`;

/** Says that two processes hand over in different formats. */
const otherFormat = (who: string, version: string, format: number): FerryError =>
  new FerryError(
    "other-format",
    `${who}, ${versionText(version)}, hands over in format ${format}, this one in format ` +
      `${handoverFormat}.`,
  );

/** Asks the process behind a control socket; throws when it hands over in another format. */
export async function askManifest(controlPath: string): Promise<Manifest> {
  const answer = await askControl(controlPath, { method: "manifest" }, { timeoutMs: answerMs });
  const any = anyShape(answer);
  if (any !== undefined && any.format !== handoverFormat) {
    throw otherFormat("the process to succeed", any.version, any.format);
  }
  const manifest = manifestShape(answer);
  if (manifest !== undefined) return manifest;
  throw new FerryError("bad-answer", `${controlPath} tells of itself what makes no sense.`);
}

const callShape = s.object({
  to: pathShape,
  format: s.optional(s.whole(), 0),
  version: s.optional(s.text(64), ""),
});

/** Where a successor listens; throws when it takes over in another format. */
export function readCall(request: unknown): string {
  const call = callShape(request);
  if (call === undefined) {
    throw new FerryError("bad-request", "a successor says where it listens, and its format.");
  }
  if (call.format === handoverFormat) return call.to;
  throw otherFormat("the successor", call.version, call.format);
}
