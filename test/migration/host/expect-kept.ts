import { expect } from "vitest";
import { MigState } from "../../../src/spec/vfio.ts";
import type { World } from "./world.ts";

/** The source is where it was before anything began. */
export function expectKept(world: World): void {
  const { sourcePort, targetPort } = world;
  expect(sourcePort).toMatchObject({
    now: MigState.running,
    frozen: "none",
    master: "none",
    sealed: false,
    guest: true,
  });
  expect(targetPort).toMatchObject({
    now: MigState.running,
    frozen: "none",
    master: "none",
    guest: false,
  });
}
