/** Versions of the package that fail as they take a running server over. */
import type { Edit } from "./next-version.ts";

/** A successor that fails: what it does, what makes it so, and what the operator is told. */
export interface Failing {
  readonly what: string;
  readonly edits: readonly Edit[];
  readonly says: RegExp;
}

const succession = "host/succession.js";
const getsReady = "if (!say(socket, Word.ready))";
const dies = 'process.kill(process.pid, "SIGKILL");';
const stands = 'process.kill(process.pid, "SIGSTOP");';

export const failing: readonly Failing[] = [
  {
    what: "speaks a later format",
    edits: [["host/manifest.js", "handoverFormat = 1", "handoverFormat = 2"]],
    says: /version 0.1.0, hands over in format 1, this one in format 2/,
  },
  {
    what: "calls in a format that this version does not know",
    edits: [[succession, "format: handoverFormat", "format: 7"]],
    says: /version 9.1.\d, hands over in format 7, this one in format 1/,
  },
  {
    what: "does not know an option of the device",
    edits: [
      [
        "cli/succeeding.js",
        "await takeOver(this.#host",
        'manifest.devices[0].options.x = "1";\nthis.#succession = await takeOver(this.#host',
      ],
    ],
    says: /hello has no option x; it has /,
  },
  {
    what: "has another layout of the device's state",
    edits: [["devices/hello/hello.js", "echoBytesMax = 65536", "echoBytesMax = 32768"]],
    says: /hello refused a parked state: EINVAL/,
  },
  {
    what: "sends nonsense when it is to be ready",
    edits: [[succession, "ready: 0x52", "ready: 0x51"]],
    says: /does not hand over: the successor did not get ready/,
  },
  {
    what: "is killed with the devices in its hands",
    edits: [[succession, getsReady, `${dies}\n${getsReady}`]],
    says: /ended with SIGKILL/,
  },
  {
    what: "is killed when it has heard that it may go on",
    edits: [[succession, "say(socket, Word.own);", dies]],
    says: /ended with SIGKILL/,
  },
];

/** Wants the operator to wait for six seconds. */
export const standsStill: Failing = {
  what: "takes the devices and then stands still",
  edits: [[succession, getsReady, `${stands}\n${getsReady}`]],
  says: /it said nothing for 6 s, and was ended/,
};
