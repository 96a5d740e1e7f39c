/** The death of a device's owner cannot be undone; everybody who asks is told of it. */
import { expect, it } from "vitest";
import { Scene } from "./scene.ts";
import { decisionOf } from "./watch.ts";

const hangMs = 120_000;
const lost = "was doing may be lost";

it(
  "a target that dies after it has the device says so, and so does its source",
  async () => {
    await using scene = await Scene.begin("unix", "");
    const { source, target, relay } = scene;
    let killed = Promise.resolve();
    relay.hear = async (said, step) => {
      if (said !== "own" || step !== "arrives") return;
      relay.cut();
      killed = target.kill().then(() => target.restart());
      await killed;
    };
    const destination = await scene.offered();
    const end = await source.migrate({ ...destination, vcpusStopped: true });
    expect(end.outcome).toBe("moved");
    expect(end.sentence).toContain(lost);
    await target.ferry.hears(({ why }) => why?.includes(lost) === true, "the loss");
    expect(decisionOf(target, destination.token)).toBe("own");
  },
  hangMs,
);

it(
  "a source that dies undecided and keeps the device says so",
  async () => {
    await using scene = await Scene.begin("unix", "");
    const { source, relay } = scene;
    let restarted = Promise.resolve();
    relay.hear = async (said, step) => {
      if (said !== "commit" || step !== "arrives") return;
      relay.cut();
      restarted = source.kill().then(() => source.restart());
      await restarted;
    };
    const { token, ...to } = await scene.offered();
    await source.migrate({ ...to, token, vcpusStopped: true }).catch(() => {});
    await restarted;
    await source.ferry.hears(({ sentence }) => sentence?.includes(lost) === true, "the loss");
    expect(decisionOf(source, token)).toBe("kept");
  },
  hangMs,
);
