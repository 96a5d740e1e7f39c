/** A socket with descriptors in its messages, as both ends of a connection use it. */
import { spawnSync } from "node:child_process";
import { closeSync, readSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT, MSG_PEEK, SCM_MAX_FD } from "../../src/sys/constants.ts";
import { createEventfd, createMemfd, isOpen, signalEventfd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { isCloseOnExec, openDescriptors } from "./descriptor-facts.ts";

const arena = new Arena(65_536);
const receiveAt = 32_768;

describe("a channel", () => {
  let near: Channel;
  let far: Channel;
  const opened: number[] = [];

  beforeEach(() => {
    const [one, other] = socketPair();
    near = new Channel(one);
    far = new Channel(other);
    arena.bytes.fill(0);
  });

  afterEach(() => {
    near.close();
    far.close();
    for (const fd of opened.splice(0)) closeSync(fd);
  });

  const memfds = (count: number): number[] => {
    const fds = Array.from({ length: count }, (_, i) => {
      const fd = createMemfd(`fd ${i}`, 4096);
      writeSync(fd, Uint8Array.of(i), 0, 1, 0);
      return fd;
    });
    opened.push(...fds);
    return fds;
  };

  const place = (text: string): [address: number, length: number] => {
    const bytes = Buffer.from(text);
    arena.bytes.set(bytes, 0);
    return [arena.address, bytes.length];
  };

  const send = (from: Channel, text: string, fds: readonly number[] = []): number =>
    fds.length === 0 ? from.send(...place(text)) : from.sendWithFds(...place(text), fds);

  /** Receives what is there, with the first byte of each descriptor's file. */
  const receive = (at: Channel, length = 1000, flags = MSG_DONTWAIT) => {
    const count = at.receive(arena.address + receiveAt, length, flags);
    const fds = [...at.receivedFds.subarray(0, at.receivedFdCount)];
    const content = new Uint8Array(1);
    const first = fds.map((fd) => {
      opened.push(fd);
      readSync(fd, content, 0, 1, 0);
      return content[0];
    });
    const text = Buffer.from(arena.bytes.subarray(receiveAt, receiveAt + Math.max(0, count)));
    return { text: count < 0 ? count : text.toString(), first };
  };

  it("carries bytes both ways", () => {
    expect(send(near, "question")).toBe(8);
    expect(receive(far)).toEqual({ text: "question", first: [] });
    expect(send(far, "answer")).toBe(6);
    expect(receive(near, 3)).toEqual({ text: "ans", first: [] });
    expect(receive(near)).toEqual({ text: "wer", first: [] });
  });

  it("sends two pieces as one", () => {
    const [address] = place("headbody and more");
    expect(near.sendTwo(address, 4, address + 4, 4)).toBe(8);
    expect(receive(far)).toEqual({ text: "headbody", first: [] });
    expect(near.sendTwo(address, 0, address + 4, 4)).toBe(4);
    expect(receive(far)).toEqual({ text: "body", first: [] });
  });

  it("passes descriptors both ways; the sender keeps its own", () => {
    const fds = memfds(3);
    expect(send(near, "three", fds)).toBe(5);
    expect(receive(far)).toEqual({ text: "three", first: [0, 1, 2] });
    expect(fds.every(isOpen)).toBe(true);
    expect(send(far, "one", [fds[2] as number])).toBe(3);
    expect(receive(near)).toEqual({ text: "one", first: [2] });
  });

  it("passes the open file itself: what is done to one descriptor shows in the other", () => {
    const eventfd = createEventfd();
    opened.push(eventfd);
    send(near, "x", [eventfd]);
    far.receive(arena.address + receiveAt, 10);
    const passed = far.receivedFds[0] as number;
    opened.push(passed);
    expect(passed).not.toBe(eventfd);
    expect(signalEventfd(passed)).toBe(8);
    const count = new Uint8Array(8);
    expect(readSync(eventfd, count, 0, 8, null)).toBe(8);
    expect(count[0]).toBe(1);
  });

  it("receives descriptors that no child process inherits", () => {
    send(near, "x", memfds(2));
    receive(far);
    const received = [...far.receivedFds.subarray(0, 2)];
    expect(received.map(isCloseOnExec)).toEqual([true, true]);
  });

  it("forgets the descriptors of the last message at the next", () => {
    send(near, "with", memfds(2));
    receive(far);
    expect(far.receivedFdCount).toBe(2);
    send(near, "without");
    expect(receive(far)).toEqual({ text: "without", first: [] });
    expect(far.receivedFdCount).toBe(0);
    expect(receive(far).text).toBe(-errno.EAGAIN);
    expect(far.receivedFdCount).toBe(0);
  });

  it("sends nothing but bytes after a message with descriptors", () => {
    send(near, "with", memfds(2));
    receive(far);
    const [address] = place("ab");
    near.sendTwo(address, 1, address + 1, 1);
    expect(receive(far)).toEqual({ text: "ab", first: [] });
    expect(near.sendWithFds(address, 2, [])).toBe(2);
    expect(receive(far)).toEqual({ text: "ab", first: [] });
  });

  it("ends a burst at a message with descriptors, which belong to the last one in it", () => {
    const [one, two, three] = memfds(3) as [number, number, number];
    send(near, "A");
    send(near, "B");
    send(near, "C", [one]);
    send(near, "D");
    send(near, "E", [two, three]);
    send(near, "F", [one]);
    send(near, "G");
    expect(receive(far)).toEqual({ text: "ABC", first: [0] });
    expect(receive(far)).toEqual({ text: "DE", first: [1, 2] });
    expect(receive(far)).toEqual({ text: "F", first: [0] });
    expect(receive(far)).toEqual({ text: "G", first: [] });
  });

  it("gives descriptors out with the first piece of their message", () => {
    send(near, "before");
    send(near, "message", memfds(1));
    send(near, "after");
    expect(receive(far, 8)).toEqual({ text: "beforeme", first: [0] });
    expect(receive(far)).toEqual({ text: "ssageafter", first: [] });
  });

  it("copies descriptors for a peek, and again for the receive", () => {
    send(near, "x", memfds(1));
    expect(receive(far, 10, MSG_DONTWAIT | MSG_PEEK)).toEqual({ text: "x", first: [0] });
    expect(receive(far)).toEqual({ text: "x", first: [0] });
  });

  it(`passes ${SCM_MAX_FD} descriptors with a message, and no more`, () => {
    const fds = memfds(SCM_MAX_FD);
    expect(send(near, "many", fds)).toBe(4);
    expect(receive(far)).toEqual({ text: "many", first: fds.map((_, i) => i) });
    expect(far.truncated).toBe(false);
    expect(send(near, "more", [...fds, fds[0] as number])).toBe(-errno.EINVAL);
    expect(send(near, "again", fds.slice(0, 1))).toBe(5);
    expect(receive(far)).toEqual({ text: "again", first: [0] });
  });

  it("closes what it received, all of it or from a place on", () => {
    const before = openDescriptors();
    const fds = memfds(4);
    send(near, "x", fds);
    far.receive(arena.address + receiveAt, 10);
    const received = [...far.receivedFds.subarray(0, 4)];
    far.closeReceived(3);
    expect(far.receivedFdCount).toBe(3);
    expect(received.map(isOpen)).toEqual([true, true, true, false]);
    far.closeReceived();
    expect(far.receivedFdCount).toBe(0);
    far.closeReceived();
    expect(openDescriptors()).toBe(before + 4);
  });

  it("answers EPIPE to a send without a reader, and the process lives on", () => {
    far.shutdown();
    expect(send(near, "x")).toBe(-errno.EPIPE);
    const [address] = place("ab");
    expect(near.sendTwo(address, 1, address + 1, 1)).toBe(-errno.EPIPE);
    expect(send(near, "x", memfds(1))).toBe(-errno.EPIPE);
  });

  it("answers 0 at the end of the stream, after everything that was sent", () => {
    send(near, "last words");
    near.shutdown();
    expect(receive(far).text).toBe("last words");
    expect(receive(far).text).toBe("");
    expect(receive(near).text).toBe("");
  });

  it("takes as much as fits when it may not wait", () => {
    let sent = 0;
    let result = 0;
    while (result >= 0) {
      sent += result;
      result = near.send(arena.address, 32_768, MSG_DONTWAIT);
    }
    expect(result).toBe(-errno.EAGAIN);
    let received = 0;
    for (let count = 1; count > 0; received += Math.max(0, count)) {
      count = far.receive(arena.address + receiveAt, 32_768, MSG_DONTWAIT);
    }
    expect(received).toBe(sent);
  });

  it("says when descriptors got lost because this process has too many", () => {
    const script = fileURLToPath(new URL("descriptor-shortage.mjs", import.meta.url));
    const shell = `ulimit -n 64 && exec "${process.execPath}" "${script}"`;
    const done = spawnSync("/bin/sh", ["-c", shell], { encoding: "utf8" });
    expect(done.stderr).toBe("");
    expect(JSON.parse(done.stdout)).toEqual([
      { free: 3, sent: 3, received: 3, truncated: false },
      { free: 2, sent: 3, received: 2, truncated: true },
      { free: 0, sent: 3, received: 0, truncated: true },
    ]);
  });
});
