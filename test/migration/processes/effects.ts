/** What a fault does to a scene, and how it passes. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import type { MigratingHost } from "../../support/migrating-host.ts";
import type { Fault, What, Who } from "./faults.ts";
import type { Scene } from "./scene.ts";

/** Shorter and longer than a silence after which a host takes its link for lost (5 s). */
const momentMs = 1500;
const longMs = 6500;
const restartMs = 300;

/** Strikes at once; the function passes it, after so long. */
interface Effect {
  readonly strike: (scene: Scene) => void | Promise<void>;
  readonly passMs: number;
  readonly pass: (scene: Scene) => void | Promise<void>;
}

const nothing = (): void => {};

function stopped(
  pidOf: (scene: Scene) => (signal: NodeJS.Signals) => void,
  passMs: number,
): Effect {
  return {
    strike: (scene) => pidOf(scene)("SIGSTOP"),
    passMs,
    pass: (scene) => pidOf(scene)("SIGCONT"),
  };
}

type HostOf = (scene: Scene) => MigratingHost;
const source: HostOf = (scene) => scene.source;
const target: HostOf = (scene) => scene.target;

const signalTo = (host: HostOf) => (scene: Scene) => (signal: NodeJS.Signals) =>
  void host(scene).ferry.process.kill(signal);
const signalToGuest = (scene: Scene) => (signal: NodeJS.Signals) => scene.guest.signal(signal);

const killed = (host: HostOf): Effect => ({
  strike: (scene) => host(scene).kill(),
  passMs: restartMs,
  pass: (scene) => host(scene).restart(),
});

/** The longest file that a process may write; what goes beyond is EFBIG, as on a full disk. */
function limitFiles({ ferry }: MigratingHost, bytes: number | "unlimited"): void {
  const done = spawnSync("prlimit", ["--pid", `${ferry.pid}`, `--fsize=${bytes}:unlimited`]);
  if (done.status !== 0) throw new Error(`prlimit: ${done.stderr}`);
}

/** So many bytes more go onto the disk. */
const full = (host: HostOf, room: number): Effect => ({
  strike: (scene) => {
    const { journal } = host(scene);
    limitFiles(host(scene), (existsSync(journal) ? statSync(journal).size : 0) + room);
  },
  passMs: longMs,
  pass: (scene) => limitFiles(host(scene), "unlimited"),
});

const withinLine = 40;

const effects: Readonly<Record<Who, Readonly<Partial<Record<What, Effect>>>>> = {
  source: {
    "is killed": killed(source),
    "is stopped for a moment": stopped(signalTo(source), momentMs),
    "is stopped for long": stopped(signalTo(source), longMs),
  },
  target: {
    "is killed": killed(target),
    "is stopped for a moment": stopped(signalTo(target), momentMs),
    "is stopped for long": stopped(signalTo(target), longMs),
  },
  guest: {
    "is killed": { strike: ({ guest }) => guest.signal("SIGKILL"), passMs: 0, pass: nothing },
    "is stopped for a moment": stopped(signalToGuest, momentMs),
    "is stopped for long": stopped(signalToGuest, longMs),
  },
  link: {
    "is cut": { strike: ({ relay }) => relay.cut(), passMs: 0, pass: nothing },
    "is cut for good": {
      strike: ({ relay }) => {
        relay.refuses = true;
        relay.cut();
      },
      passMs: 0,
      pass: nothing,
    },
    "is silent for a moment": {
      strike: ({ relay }) => relay.stall(),
      passMs: momentMs,
      pass: ({ relay }) => relay.goOn(),
    },
    "is silent for long": {
      strike: ({ relay }) => relay.stall(),
      passMs: longMs,
      pass: ({ relay }) => relay.goOn(),
    },
  },
  "source's disk": {
    "is full": full(source, 0),
    "is full within a line": full(source, withinLine),
  },
  "target's disk": {
    "is full": full(target, 0),
    "is full within a line": full(target, withinLine),
  },
};

export function effectOf({ who, what }: Fault): Effect {
  const effect = effects[who][what];
  if (effect === undefined) throw new Error(`nothing is known of a ${who} that ${what}`);
  return effect;
}
