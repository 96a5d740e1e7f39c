/** An operator's way to migrations: the methods of a control socket. */
import { once } from "node:events";
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { askControl } from "../../../src/host/control-line.ts";
import { ControlSocket, connectionsMax } from "../../../src/host/control-socket.ts";
import type { Finished } from "../../../src/host/migration-control.ts";
import { migrationMethods } from "../../../src/host/migration-methods.ts";
import type { TimedEvent } from "../../../src/migration/hosts/events.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { temporaryFolder } from "../../support/ferry.ts";
import { isVerdict, TestHost } from "./control.ts";

const folder = temporaryFolder();
const open: Array<{ close(): void }> = [];
afterAll(() => {
  for (const each of open) each.close();
  folder[Symbol.dispose]();
});

let sockets = 0;
async function served(state: readonly number[]) {
  const host = new TestHost(state);
  const path = join(folder.path, `${sockets++}.ctl`);
  open.push(
    await ControlSocket.listen(
      path,
      migrationMethods(() => host.control),
    ),
  );
  const ask = (method: string, request: object = {}, hear: (event: unknown) => void = () => {}) =>
    askControl(path, { method, ...request }, { hear });
  return { host, path, ask };
}

describe("the control socket", () => {
  it("moves a device, tells how it goes, and pauses", async () => {
    const alice = await served([1, 2, 3]);
    const bob = await served([]);
    const [other, listen] = ["other", "bob"].map((name) => `unix:${join(folder.path, name)}.mig`);
    await bob.ask("migrate-offer", { from: "local", listen: other });
    const offer = (await bob.ask("migrate-offer", { from: "local", listen })) as {
      token: string;
      address: string;
    };
    expect(await bob.ask("migrate-status")).toMatchObject({ offers: 2, migration: null });
    const events: TimedEvent[] = [];
    const target = { to: offer.address, token: offer.token };
    expect(await alice.ask("migrate-precheck", target)).toMatchObject({ compatible: true });
    const moved = alice.ask("migrate", { ...target, pauseBefore: ["freeze"] }, (event) => {
      events.push(event as TimedEvent);
      if ((event as TimedEvent).kind === "paused") void alice.ask("migrate-continue");
    });
    const done = (await moved) as Finished;
    expect(done).toMatchObject({ outcome: "moved", report: { side: "source", peer: "local" } });
    expect(events.map(({ kind }) => kind)).toContain("paused");
    expect(isVerdict(events.at(-1) as TimedEvent)).toBe(true);
    await bob.host.hears(isVerdict);
    expect(await bob.ask("migrate-status")).toMatchObject({
      migration: {
        side: "target",
        report: { address: listen, outcome: { outcome: "moved", state: "RUNNING" } },
      },
    });
    for (const { host } of [alice, bob]) host.control.halt();
  });

  it("answers what makes no sense with a sentence and a code", async () => {
    const { ask } = await served([1]);
    const codes: Array<readonly [method: string, request: object, code: string]> = [
      ["migrate", {}, "bad-argument"],
      ["migrate", { to: "nowhere" }, "bad-argument"],
      ["migrate", { to: "tls://bob:1" }, "usage"],
      ["migrate-precheck", { to: "tls://bob:1", token: "0".repeat(32) }, "usage"],
      ["migrate-offer", { from: "alice", listen: "file:/x" }, "usage"],
      ["migrate-offer", { from: "alice", listen: "tls://0.0.0.0:0" }, "usage"],
      ["migrate-load", { from: "unix:/x" }, "usage"],
      ["migrate-load", { from: "file:/nowhere/at/all" }, "no-state"],
      ["migrate-continue", {}, "not-migrating"],
      ["migrate-abort", {}, "not-migrating"],
      ["migrate-resolve", { owner: "here" }, "not-migrating"],
      ["migrate-thaw", {}, "not-waiting"],
    ];
    for (const [method, request, code] of codes) {
      await expect(ask(method, request), `${method} ${JSON.stringify(request)}`).rejects.toThrow(
        expect.objectContaining({ code, message: expect.stringMatching(/\S.*[.\w]$/) }),
      );
    }
  });

  it("moves nothing by a token that was decided upon before", async () => {
    const { host, ask } = await served([1, 2]);
    const token = "5f".repeat(16);
    const [first, second] = ["a", "b"].map((name) => `file:${join(folder.path, name)}.state`);
    expect(await ask("migrate", { to: first, token })).toMatchObject({ outcome: "moved" });
    host.port.now = MigState.running;
    await expect(ask("migrate", { to: second, token })).rejects.toMatchObject({ code: "used" });
    expect(host.port.log.filter((what) => what === "claim")).toHaveLength(1);
  });

  it("names the field of a request that makes no sense", async () => {
    const { ask } = await served([1]);
    const wrong: Array<readonly [method: string, request: object, field: string]> = [
      ["migrate", {}, "to"],
      ["migrate", { to: "tls://bob:1", token: "5f1c" }, "token"],
      ["migrate", { to: "tls://bob:1", downtimeMs: -1 }, "downtimeMs"],
      ["migrate-resolve", { owner: "nobody" }, "owner"],
    ];
    for (const [method, request, field] of wrong) {
      const sentence = `${method.replace("migrate-", "")}: ${field} is missing or makes no sense.`;
      await expect(ask(method, request)).rejects.toThrow(sentence);
    }
  });

  it("loads nothing into a device that is leaving, which leaves all the same", async () => {
    const { host, ask } = await served([1, 2]);
    const [kept, to] = ["old", "new"].map((name) => `file:${join(folder.path, `${name}.state`)}`);
    expect(await ask("migrate", { to: kept })).toMatchObject({ outcome: "moved" });
    host.port.now = MigState.running;
    const moved = ask("migrate", { to, pauseBefore: ["freeze"] }) as Promise<Finished>;
    await host.hears(({ kind }) => kind === "paused");
    await expect(ask("migrate-load", { from: kept })).rejects.toMatchObject({ code: "busy" });
    await expect(ask("migrate", { to: `${to}.2` })).rejects.toMatchObject({ code: "busy" });
    await ask("migrate-continue");
    expect(await moved).toMatchObject({ outcome: "moved" });
  });

  it("ends only the migration that an operator has looked at", async () => {
    const { host, ask } = await served([1, 2]);
    const to = `file:${join(folder.path, "meant.state")}`;
    const moved = ask("migrate", { to, pauseBefore: ["freeze"] }) as Promise<Finished>;
    await host.hears(({ kind }) => kind === "paused");
    const { migration } = (await ask("migrate-status")) as { migration: { token: string } };
    for (const method of ["migrate-abort", "migrate-resolve"]) {
      const other = { owner: "here", token: "0".repeat(32) };
      await expect(ask(method, other)).rejects.toThrow(`is migration ${migration.token}`);
    }
    await ask("migrate-abort", { token: migration.token });
    expect(await moved).toMatchObject({ outcome: "kept" });
  });

  it("resets a device that nobody migrates", async () => {
    const { host, ask } = await served([1]);
    expect(await ask("migrate-reset")).toEqual({ done: true });
    expect((await host.port.status()).state).toBe(MigState.running);
  });

  it("streams events until whoever asked has gone", async () => {
    const { host, path } = await served([1]);
    const socket = connect(path);
    socket.write(`${JSON.stringify({ method: "migrate-events" })}\n`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    void host.control.migrate({ to: `file:${join(folder.path, "events.state")}` });
    const [text] = (await once(socket.setEncoding("utf8"), "data")) as [string];
    expect(JSON.parse(text.split("\n")[0] ?? "")).toMatchObject({ event: { kind: "phase" } });
    socket.destroy();
    await host.hears(isVerdict);
  });

  it("is its owner's only", async () => {
    const { path } = await served([1]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it("takes one migration at a time", async () => {
    const { host, ask } = await served([1, 2]);
    host.port.before = async (what) => {
      if (what !== "move STOP_COPY") return;
      await expect(ask("migrate", { to: "file:/x" })).rejects.toThrow("being migrated already");
      await expect(ask("migrate-reset")).rejects.toThrow("end that first");
    };
    const to = `file:${join(folder.path, "once.state")}`;
    expect(await ask("migrate", { to })).toMatchObject({ outcome: "moved" });
  });

  it("hears as many operators at once as it says, and tells the next one why not", async () => {
    const { path, ask } = await served([]);
    const waiting = Array.from({ length: connectionsMax }, () => connect(path));
    await Promise.all(waiting.map((socket) => once(socket, "connect")));
    await expect(ask("migrate-status")).rejects.toThrow(
      `has ${connectionsMax} connections, and takes no more`,
    );
    const [last] = waiting.slice(-1) as [(typeof waiting)[0]];
    last.write(`${JSON.stringify({ method: "migrate-status" })}\n`);
    expect(String(await once(last, "data"))).toContain('"port"');
    for (const socket of waiting) socket.destroy();
  });
});
