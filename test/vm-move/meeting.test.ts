/** Where two hosts meet: all that is needed is asked for before anything is done. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { homeOf, meetingAt } from "../../src/vm/meeting.ts";
import { VmWorld } from "./world.ts";

const tls = "tls://bob:7100";
const names = { from: "alice", pki: "/etc/alice", toPki: "/etc/bob" } as const;

describe("a meeting", () => {
  it("on one machine is of one user", () => {
    const meeting = meetingAt("unix:/run/mig", "unix:/run/vm", { from: undefined });
    expect(meeting).toEqual({ address: "unix:/run/mig", from: "local" });
  });

  it("of two hosts is of two names", () => {
    const meeting = meetingAt(tls, "tcp:bob:7101", { ...names, peer: "bob2" });
    expect(meeting).toEqual({ address: tls, ...names, peer: "bob2" });
  });

  it("of a device that comes back is the same one the other way round", () => {
    const link = meetingAt(tls, "tcp:bob:7101", names);
    const home = { address: "tls://alice:7100", from: "bob", peer: "alice" };
    const wanted = { ...home, pki: "/etc/bob", toPki: "/etc/alice" };
    expect(homeOf(link, "tls://alice:7100")).toEqual(wanted);
    expect(homeOf({ ...link, peer: "bob2" }, "tls://alice:7100").from).toBe("bob2");
    expect(() => homeOf(link, "unix:/m")).toThrow(/--home unix:\/m is no tls:/);
    const near = { address: "unix:/run/back", from: "local" };
    expect(homeOf({ address: "unix:/run/mig", from: "local" }, "unix:/run/back")).toEqual(near);
  });

  const wrong: ReadonlyArray<readonly [string, Parameters<typeof meetingAt>, RegExp]> = [
    ["a name without TLS", ["unix:/m", "unix:/v", { from: "alice" }], /--link tls:/],
    ["a folder without TLS", ["unix:/m", "unix:/v", { pki: "/etc/alice" }], /--link tls:/],
    ["TLS without a name", [tls, "tcp:bob:1", { ...names, from: undefined }], /--from NAME/],
    ["TLS without a certificate", [tls, "tcp:bob:1", { ...names, pki: undefined }], /--pki FOLDER/],
    ["TLS without the other's", [tls, "tcp:bob:1", { ...names, toPki: undefined }], /--to-pki/],
    ["TLS with memory on one machine", [tls, "unix:/run/vm", names], /--memory tcp:/],
    ["a file", ["file:/tmp/state", "tcp:bob:1", names], /no tls:/],
  ];
  it.each(wrong)("is refused: %s", (_, asked, sentence) => {
    expect(() => meetingAt(...asked)).toThrow(sentence);
  });
});

describe("a VM that moves to another host", () => {
  let world: VmWorld;

  beforeEach(() => {
    world = new VmWorld();
  });
  afterEach(() => world.end());

  it("tells each server where, by which certificate, and with whom", async () => {
    const [part] = world.parts;
    if (part === undefined) throw new Error("there is no device");
    part.link = { address: tls, ...names, peer: "bob2" };
    expect((await world.move()).outcome).toBe("moved");
    expect(part.told.target).toMatchObject({ listen: tls, from: "alice", pki: "/etc/bob" });
    expect(part.told.source).toMatchObject({ peer: "bob2", pki: "/etc/alice" });
  });
});
