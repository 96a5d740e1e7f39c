import { existsSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Connection } from "../../src/client/connection.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { connectUnix, listenUnix, setNonBlocking, socketPair } from "../../src/sys/unix.ts";
import { ferry as run } from "../cli/run.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";

let folder: ReturnType<typeof temporaryFolder>;
let path: string;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, "device.sock");
});
afterEach(() => folder[Symbol.dispose]());

const connect = (): RemoteDevice => new RemoteDevice(Connection.connect(path), "hello");

/** Reads a register of BAR0. */
function register(device: RemoteDevice, offset: number): number {
  const bytes = new Uint8Array(4);
  expect(device.read(PciRegion.bar0, offset, bytes, 0, 4)).toBeGreaterThanOrEqual(0);
  return new DataView(bytes.buffer).getUint32(0, true);
}

const magic = 0x6f6c_6568;

test("SIGTERM sends the client away, removes both sockets and exits with 0", async () => {
  await using ferry = await Ferry.start(["hello", "--socket-path", path]);
  const device = connect();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(`${path}.ctl`).mode & 0o777).toBe(0o600);
  expect(await ferry.stop()).toBe(0);
  expect(device.read(PciRegion.bar0, 0, new Uint8Array(4), 0, 4)).toBeLessThan(0);
  device.close();
  expect(existsSync(path)).toBe(false);
  expect(existsSync(`${path}.ctl`)).toBe(false);
});

test("a socket file that a dead server left behind is replaced", async () => {
  const first = await Ferry.start(["hello", "--socket-path", path]);
  first.process.kill("SIGKILL");
  await first.exited;
  expect(existsSync(path)).toBe(true);
  await using _second = await Ferry.start(["hello", "--socket-path", path]);
  const device = connect();
  expect(register(device, 0)).toBe(magic);
  device.close();
});

test("a socket that a live server listens on is left alone", async () => {
  await using _first = await Ferry.start(["hello", "--socket-path", path]);
  const { code, text } = await Ferry.fails(["hello", "--socket-path", path]);
  expect(code).toBe(2);
  expect(text).toContain(`another process listens on ${path}`);
  expect(text).not.toContain("    at ");
  const device = connect();
  expect(register(device, 0)).toBe(magic);
  device.close();
});

test("a file that is no socket is never removed", async () => {
  writeFileSync(path, "precious");
  const { code, text } = await Ferry.fails(["hello", "--socket-path", path]);
  expect(code).toBe(2);
  expect(text).toContain("is not a socket");
  expect(existsSync(path)).toBe(true);
});

test("a client that dies leaves its device, with its registers, to the next one", async () => {
  await using ferry = await Ferry.start(["hello", "--socket-path", path]);
  const first = connect();
  first.write(PciRegion.bar0, 0x2c, new Uint8Array([1, 2, 3, 4]), 0, 4);
  closeFd(first.connection.fd);
  await ferry.says("client gone");
  const second = connect();
  expect(register(second, 0x2c)).toBe(0x0403_0201);
  second.close();
});

test("a hundred clients one after the other, none is told that one is there", async () => {
  await using ferry = await Ferry.start(["hello", "--socket-path", path]);
  const before = ferry.openFds;
  for (let i = 0; i < 100; i++) {
    const device = connect();
    expect(register(device, 0)).toBe(magic);
    device.close();
    // Reads what the server has said: a log that nobody reads drops lines.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ferry.says("client gone", 100);
  await until(() => ferry.openFds <= before, "all descriptors are closed again");
});

test("--fd with a connected socket serves whoever holds the other end", async () => {
  const [ours, theirs] = socketPair();
  await using _ferry = await Ferry.start(["hello", "--fd", "3"], {}, [theirs]);
  closeFd(theirs);
  const device = new RemoteDevice(Connection.adopt(ours, "inherited"), "hello");
  expect(register(device, 0)).toBe(magic);
  device.close();
});

test("--fd with a listening socket, and LISTEN_FDS, serve as a path does", async () => {
  for (const args of [["--fd", "3"], []]) {
    const listener = listenUnix(path, 4);
    setNonBlocking(listener, true);
    const environment = args.length === 0 ? { LISTEN_FDS: "1" } : {};
    await using ferry = await Ferry.start(["hello", ...args], environment, [listener]);
    closeFd(listener);
    const device = connect();
    expect(register(device, 0)).toBe(magic);
    device.close();
    expect(await ferry.stop()).toBe(0);
  }
});

test("many devices in one process, each behind its own socket", async () => {
  const pattern = join(folder.path, "{n}.sock");
  await using ferry = await Ferry.start(["hello", "--socket-path", pattern, "--count", "3"]);
  await ferry.says("serving", 3);
  const devices = [0, 1, 2].map((n) => {
    const connection = Connection.connect(join(folder.path, `${n}.sock`));
    return new RemoteDevice(connection, `hello ${n}`);
  });
  for (const [n, device] of devices.entries()) {
    device.write(PciRegion.bar0, 0x2c, new Uint8Array([n, 0, 0, 0]), 0, 4);
  }
  for (const [n, device] of devices.entries()) expect(register(device, 0x2c)).toBe(n);
  for (const device of devices) device.close();
});

test("a device that throws ends the process with 70 and a line that says why", async () => {
  const module = join(folder.path, "broken.mjs");
  const hello = new URL("../../dist/devices/hello/index.js", import.meta.url).href;
  writeFileSync(
    module,
    `import { create as hello } from ${JSON.stringify(hello)};
     export function create() {
       const device = hello({});
       device.reset = () => { throw new Error("the device is broken"); };
       return device;
     }`,
  );
  await using ferry = await Ferry.start([module, "--socket-path", path]);
  const device = connect();
  expect(device.reset()).toBeLessThan(0);
  device.close();
  expect(await ferry.exited).toBe(70);
  expect(ferry.lines.at(-1)?.msg).toContain("the device is broken");
});

test("operators' mistakes are one sentence each and exit with 2", async () => {
  const mistakes: Array<[string[], string]> = [
    [[], "name a device to serve"],
    [["nothing-of-this-name", "--socket-path", path], "no device nothing-of-this-name"],
    [["hello"], "say where to listen"],
    [["hello", "--socket-path", path, "--count", "2"], "needs {n}"],
    [["hello", "--socket-path", `/tmp/${"x".repeat(120)}`], "unix sockets allow 107"],
    [["hello", "--fd", "1"], "not a socket"],
    [["hello", "--socket-path", path, "--set", "x=1"], "hello has no option x; it has msix"],
    [["--take-over", join(folder.path, "nobody.ctl")], "cannot be used"],
  ];
  for (const [args, sentence] of mistakes) {
    const { code, text } = await Ferry.fails(args);
    expect(text).toContain(sentence);
    expect(text).not.toContain("    at ");
    expect(code).toBe(2);
  }
});

test("a connection that sends half a VERSION and stays holds up nobody", async () => {
  await using _ferry = await Ferry.start(["hello", "--socket-path", path]);
  const silent = Array.from({ length: 12 }, () => connectUnix(path));
  const device = connect();
  expect(register(device, 0)).toBe(magic);
  device.close();
  for (const fd of silent) closeFd(fd);
});

test("a device is found by its socket however that is spelled", async () => {
  const spelled = relative(process.cwd(), path);
  await using _alice = await Ferry.start(["hello", "--socket-path", spelled]);
  await using _bob = await Ferry.start(["hello", "--socket-path", `${path}.2`]);
  const [dotted, other] = [join(folder.path, ".", "device.sock"), `${spelled}.2`];
  for (const socket of [spelled, dotted, `./${spelled}`]) {
    const status = await run("migrate", "status", socket, "--json");
    expect(JSON.parse(status.output)).toMatchObject({ device: "hello" });
    const there = await run("swap", socket, "--to", other);
    expect(there).toMatchObject({ code: 0, errors: "" });
    expect((await run("swap", other, "--to", socket)).code).toBe(0);
  }
});
