/** Whoever answers on a control socket may be anything. */
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { answerBytesMax, askControl, ControlLine } from "../../src/host/control-line.ts";
import { temporaryFolder } from "../support/ferry.ts";

let folder: ReturnType<typeof temporaryFolder>;
let path: string;
let server: Server;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, "x.ctl");
});

afterEach(() => {
  server.close();
  folder[Symbol.dispose]();
});

/** Answers every line by `reply`, which gets how many came before. */
async function serve(reply: (socket: Socket, count: number) => void): Promise<void> {
  server = createServer((socket) => {
    let count = 0;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      for (const byte of bytes) if (byte === 0x0a) reply(socket, count++);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

const ask = (options = {}) => askControl(path, { method: "probe" }, options);

test("events come before the answer, in whatever pieces they arrive", async () => {
  await serve((socket) => {
    socket.write('{"event":1}\n{"ev');
    setImmediate(() => socket.write('ent":{"b":2}}\n{"answer":3}\n'));
  });
  const heard: unknown[] = [];
  expect(await ask({ hear: (event: unknown) => heard.push(event) })).toEqual({ answer: 3 });
  expect(heard).toEqual([1, { b: 2 }]);
});

test("a line is kept for the next question", async () => {
  await serve((socket, count) => socket.write(`{"count":${count}}\n`));
  const line = ControlLine.open(path);
  expect(await line.ask({ method: "a" })).toEqual({ count: 0 });
  expect(await line.ask({ method: "b" })).toEqual({ count: 1 });
  line.close();
});

test("a refusal keeps its code, and gets one where it has none", async () => {
  await serve((socket, count) =>
    socket.write(count === 0 ? '{"error":"no.","code":"busy"}\n' : '{"error":"no"}\n'),
  );
  const line = ControlLine.open(path);
  await expect(line.ask({ method: "a" })).rejects.toMatchObject({ code: "busy", message: "no." });
  const coarse = { code: "control-refused", message: `${path} refused: no.` };
  await expect(line.ask({ method: "b" })).rejects.toMatchObject(coarse);
  line.close();
});

test.each([
  ["something that is not JSON", "}{\n", "bad-answer"],
  ["JSON that is no object", "7\n", "bad-answer"],
  ["a line without end", "x".repeat(answerBytesMax + 1), "no-control"],
])("%s is a sentence", async (_name, answer, code) => {
  await serve((socket) => socket.write(answer));
  await expect(ask()).rejects.toMatchObject({ code });
});

test("silence ends when the time is over, and a lost connection at once", async () => {
  await serve((socket, count) => {
    if (count === 1) socket.destroy();
  });
  await expect(ask({ timeoutMs: 20 })).rejects.toThrow(`${path} did not answer in time`);
  const line = ControlLine.open(path);
  const first = line.ask({ method: "a" });
  line.fail("was left");
  await expect(first).rejects.toThrow("was left");
  await expect(line.ask({ method: "b" })).rejects.toThrow("was left");
});

test("an answer that nobody asked for is not the next one's", async () => {
  await serve((socket, count) => socket.write(`{"count":${count}}\n{"stray":true}\n`));
  const line = ControlLine.open(path);
  expect(await line.ask({ method: "a" })).toEqual({ count: 0 });
  expect(await line.ask({ method: "b" })).toEqual({ count: 1 });
  line.close();
});
