/** What a control socket takes from whoever asks, and keeps for whoever does not listen. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ControlSocket, type Method, requestBytesMax } from "../../src/host/control-socket.ts";
import { temporaryFolder } from "../support/ferry.ts";

let folder: ReturnType<typeof temporaryFolder>;
let control: ControlSocket;
let client: Socket;

beforeEach(() => {
  folder = temporaryFolder();
});

afterEach(() => {
  client.destroy();
  control.close();
  folder[Symbol.dispose]();
});

async function serve(ask: Method): Promise<void> {
  const path = join(folder.path, "x.ctl");
  control = await ControlSocket.listen(path, { ask });
  client = connect(path);
  await once(client, "connect");
}

/** Everything that is said until there have been so many answers. */
async function answers(count: number): Promise<Array<Record<string, unknown>>> {
  let text = "";
  for await (const bytes of client) {
    text += String(bytes);
    const lines = text.split("\n").slice(0, -1);
    const all = lines.map((line): Record<string, unknown> => JSON.parse(line));
    if (all.filter((each) => !("event" in each)).length === count) return all;
  }
  throw new Error(`${text} is all`);
}

test("a request may be 64 KiB, in whatever pieces it comes", async () => {
  await serve(async ({ name }) => ({ heard: String(name).length }));
  const rest = '{"method":"ask","name":""}'.length;
  const name = "x".repeat(requestBytesMax - rest);
  client.write(`{"method":"ask","name":"${name}"}`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  client.write("\n");
  expect(await answers(1)).toEqual([{ heard: name.length }]);
});

test("who goes on after 64 KiB without an end of line is left", async () => {
  await serve(async () => ({}));
  client.write("x".repeat(requestBytesMax + 1));
  client.resume();
  await once(client, "close");
});

test("who does not read has events kept for it, up to a MiB, and its answer", async () => {
  const event = "x".repeat(65_536);
  await serve(async (_request, emit) => {
    for (let i = 0; i < 100; i++) emit(event);
    return { done: true };
  });
  client.write('{"method":"ask"}\n');
  const all = await answers(1);
  expect(all.at(-1)).toEqual({ done: true });
  // What the kernel keeps of it is no memory of ours.
  expect(all.length).toBeGreaterThan(16);
  expect(all.length).toBeLessThan(40);
});
