import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { afterAll, expect, it } from "vitest";
import { DeviceServer } from "../../src/vm/device-server.ts";
import { temporaryFolder } from "../support/ferry.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

it("a server that does not answer is given up, and asked anew", async () => {
  const path = `${folder.path}/control`;
  const callers: Socket[] = [];
  const listener = createServer((socket) => {
    callers.push(socket.on("error", () => {}));
  }).listen(path);
  await once(listener, "listening");
  const server = new DeviceServer(path, 50);
  await expect(server.ask({ method: "status" })).rejects.toThrow(`${path} did not answer in time`);
  const called = once(listener, "connection");
  const answer = server.ask({ method: "status" });
  const [caller] = (await called) as [Socket];
  callers[0]?.write('{"late":true}\n');
  caller.write('{"late":false}\n');
  expect(await answer).toEqual({ late: false });
  server.close();
  for (const each of callers) each.destroy();
  listener.close();
});

it("nothing that never ends keeps the tool when it has closed its servers", async () => {
  const path = `${folder.path}/endless`;
  const callers: Socket[] = [];
  const listener = createServer((socket) => {
    callers.push(socket.on("error", () => {}));
  }).listen(path);
  await once(listener, "listening");
  const server = new DeviceServer(path);
  const called = once(listener, "connection");
  const followed = server.follow({ method: "migrate" }, () => {});
  await called;
  server.close();
  await expect(followed).rejects.toThrow(`${path} was left`);
  for (const each of callers) each.destroy();
  listener.close();
});
