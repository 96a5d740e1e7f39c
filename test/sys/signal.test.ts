/**
 * Waking a thread that is blocked in recvmsg, as the server's main thread does to stop or ask one.
 */
import { once } from "node:events";
import { closeSync, readFileSync, writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { installWake, threadId, wake } from "../../src/sys/signal.ts";
import { shutdownSocket, socketPair } from "../../src/sys/unix.ts";

const script = new URL("blocked-receiver.mjs", import.meta.url);

/** The system call that a thread is in, by number; -1 while it runs. */
function systemCallOf(thread: number): string {
  return readFileSync(`/proc/self/task/${thread}/syscall`, "utf8").split(" ")[0] as string;
}

const recvmsg: Partial<Record<NodeJS.Architecture, string>> = { x64: "47", arm64: "212" };

describe("a thread that is blocked in recvmsg", () => {
  let near: number;
  let far: number;
  let receiver: Worker;
  let thread: number;
  let ended: Promise<unknown>;

  beforeEach(async () => {
    installWake();
    [near, far] = socketPair();
    receiver = new Worker(script, { workerData: { fd: far } });
    ended = once(receiver, "exit");
    [{ thread }] = await once(receiver, "message");
  });

  afterEach(async () => {
    shutdownSocket(far);
    await ended;
    closeSync(near);
    closeSync(far);
  });

  const blocked = async (): Promise<void> => {
    while (systemCallOf(thread) !== recvmsg[process.arch]) await pause(1);
  };

  it("is another thread than this one", () => {
    expect(thread).not.toBe(threadId());
    expect(threadId()).toBe(process.pid);
  });

  it("returns with EINTR when it is woken, each time", async () => {
    for (let i = 0; i < 20; i++) {
      await blocked();
      const told = once(receiver, "message");
      wake(thread);
      expect(await told).toEqual([{ result: -errno.EINTR, byte: 0 }]);
    }
  });

  it("loses nothing that arrives around a wake", async () => {
    await blocked();
    const told: Array<{ result: number; byte: number }> = [];
    receiver.on("message", (message) => told.push(message));
    for (let i = 1; i <= 20; i++) {
      wake(thread);
      writeSync(near, Uint8Array.of(i));
      wake(thread);
      while (told.filter(({ result }) => result === 1).length < i) await pause(1);
    }
    const arrived = told.filter(({ result }) => result === 1).map(({ byte }) => byte);
    expect(arrived).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    const others = told.filter(({ result }) => result !== 1).map(({ result }) => result);
    expect(new Set(others)).toEqual(new Set(others.length === 0 ? [] : [-errno.EINTR]));
  });

  it("returns with 0 when the connection is shut down", async () => {
    await blocked();
    const told = once(receiver, "message");
    shutdownSocket(far);
    expect(await told).toEqual([{ result: 0, byte: 0 }]);
  });

  it("is not disturbed by a wake that is meant for another", async () => {
    await blocked();
    wake(threadId());
    writeSync(near, Uint8Array.of(9));
    expect(await once(receiver, "message")).toEqual([{ result: 1, byte: 9 }]);
  });
});

describe("a wake that comes late", () => {
  it("harms neither a thread that is not blocked nor one that is gone", () => {
    installWake();
    wake(threadId());
    wake(2 ** 30);
    expect(threadId()).toBe(process.pid);
  });
});
