/** What is a guest's, its addresses and its bytes, is in nothing that an operator reads. */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { messageOf } from "../../src/base/errors.ts";
import { writeU53 } from "../../src/base/struct.ts";
import { Connection } from "../../src/client/connection.ts";
import { GuestRam } from "../../src/client/guest-ram.ts";
import { MovableDevice } from "../../src/client/movable-device.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { encodeSec2 } from "../../src/guest/sec2-request.ts";
import { askControl } from "../../src/host/control-line.ts";
import { readState, writeState } from "../../src/host/links/state-contents.ts";
import type { Section } from "../../src/migration/driver.ts";
import { AccSection, QueueEntry } from "../../src/migration/drivers/hisi-acc/sections.ts";
import { newToken } from "../../src/migration/hosts/offers.ts";
import { AccVfData } from "../../src/spec/acc-vf-data.ts";
import { MailboxHead, Qm, qmBar } from "../../src/spec/hisi-qm.ts";
import { Bd3 } from "../../src/spec/hisi-sec2.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { connectUnix } from "../../src/sys/unix.ts";
import { ferry } from "../cli/run.ts";
import { changed, withSection } from "../migration/hisi-acc/streams.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { MigratingHost } from "../support/migrating-host.ts";

/** Addresses like no other numbers: those of 16 MiB, of which a part is mapped. */
const [firstIova, lastIova] = [0x5a_d200_0000, 0x5a_d2ff_ffff];
const memory = { memoryIova: firstIova + (3 << 20), memoryBytes: 4 << 20 };
const nowhere = lastIova - 0xffe;
const low = (address: number): number => address % 2 ** 32;
const halves = [low(nowhere), Math.floor(nowhere / 2 ** 32)] as const;

/** What keys, IVs and data begin with, and its forms; base64 has three, by what is before it. */
const secret = Buffer.from("the guest's ");
const owned = (rest: string): Buffer => Buffer.concat([secret, Buffer.from(rest)]);
const request = {
  ...({ algorithm: "cbc(aes)", encrypt: true } as const),
  ...{ key: owned("key."), iv: owned("iv.."), data: owned("data") },
};
const forms = [
  ...[secret.toString("latin1"), secret.toString("hex"), secret.join(",")],
  ...["", " ", "  "].map((before) =>
    Buffer.from(before + secret)
      .toString("base64")
      .slice(4, -4),
  ),
];

/** What of the guest's is in a text. */
function leaksOf(text: string): string[] {
  const isAddress = (value: number): boolean =>
    [value, value + firstIova - low(firstIova)].some((at) => at >= firstIova && at <= lastIova);
  const words = [...text.matchAll(/(?<![\w.])(?:0x)?([0-9a-f]{8,12})\b/gi)].map(([, word]) => word);
  return [
    ...forms.filter((form) => text.toLowerCase().includes(form.toLowerCase())),
    ...words.filter((word) => isAddress(Number(word)) || isAddress(Number(`0x${word}`))),
  ] as string[];
}

const said: string[] = [];
const say = (what: unknown): void => void said.push(JSON.stringify(what));

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const connect = (host: MigratingHost): RemoteDevice =>
  new RemoteDevice(Connection.connect(host.socket, { timeoutMs: 30_000 }), host.name);

/** The guest seals something, and it is right. */
function work(driver: Sec2Driver): void {
  const { key, iv, data } = request;
  const sealed = driver.aesCbc(key, iv, data, true);
  expect(Buffer.from(driver.aesCbc(key, iv, sealed, false))).toEqual(data);
}

/** Whatever a guest may do to a function, with its addresses and its bytes. */
function misuse(driver: Sec2Driver): void {
  const { device } = driver.qm.function;
  const words = new Uint8Array(16);
  const view = new DataView(words.buffer);
  const write = (offset: number, ...values: number[]): void => {
    for (const [i, value] of values.entries()) view.setUint32(4 * i, value, true);
    device.write(qmBar, offset, words, 0, 4 * values.length);
  };
  for (const offset of Object.values(Qm.at)) write(offset, halves[0]);
  for (let command = 0; command < 16; command++) {
    write(Qm.at.MAILBOX, MailboxHead.pack({ command, busy: true, queue: 3 }), ...halves, 0);
  }
  write(nowhere, ...halves);
  device.write(qmBar, 0, secret, 0, secret.length);
  device.write(qmBar, Qm.at.MAILBOX, request.key, 0, 16);
  device.unmapDma(nowhere, 4096);
  for (const iova of [memory.memoryIova, nowhere, nowhere + 1]) {
    const size = iova === nowhere ? Number.MAX_SAFE_INTEGER : 4096;
    device.mapDma({
      ...{ iova, size, readable: true, writable: true, fd: -1, offset: nowhere, mayMap: true },
    });
  }
}

/** Descriptors that lead to no memory, and such as are nothing at all. */
function submitBadOnes(driver: Sec2Driver): void {
  const fields = ["dataSrcAddr", "cKeyAddr", "cIvinAddr", "bdParam"] as const;
  for (const field of fields) {
    const queue = driver.qm.queues[0];
    const call = queue?.submit((sqe, entry, area) => {
      const decode = encodeSec2(request, sqe, entry, area);
      writeU53(sqe, entry + Bd3.offset[field], nowhere);
      return decode;
    });
    expect(() => driver.qm.wait(call ?? expect.fail()).data).toThrow();
    driver.qm.reset();
  }
}

/** Files that hold the state at `from` with one value that no guest could have. */
async function* tampered(from: string): AsyncGenerator<string> {
  const { hello, sections } = await readState(from);
  const all = new Map(sections.map((section) => [section.kind, section]));
  const vfData = (changes: object) => changed(all.get(AccSection.vfData)!, AccVfData, changes);
  const queue = (changes: object) => changed(all.get(AccSection.queues)!, QueueEntry, changes);
  const bad = [
    vfData({ eqAddress: nowhere }),
    vfData({ sqcTable: nowhere + 1 }),
    vfData({ eqc: [...halves, halves[0], 0, 0, 0, 0x10003] }),
    vfData({ aeqIntMask: halves[0] }),
    vfData({ reservedState: halves }),
    queue({ sqc: [0, ...halves, 0, 0, 0, 0, 0] }),
    queue({ cqc: [halves[0], ...halves, 0, 0, 0, 0, 0] }),
    queue({ number: halves[0] }),
    { ...(all.get(AccSection.queues) ?? expect.fail()), bytes: secret },
  ];
  const write = async (to: string, changes: readonly Section[]): Promise<string> => {
    await writeState(to, hello.compatibility, newToken(randomBytes), changes);
    return to;
  };
  for (const [i, section] of bad.entries()) {
    yield await write(at(`bad-${i}.state`), withSection(all, section));
  }
  const path = await write(at("damaged.state"), sections);
  const bytes = readFileSync(path);
  bytes.set(secret, bytes.length / 2);
  writeFileSync(path, bytes);
  yield path;
}

let hosts: MigratingHost[] = [];
beforeAll(async () => {
  const start = (name: string, queues: number) =>
    MigratingHost.start(name, folder.path, ["hisi-sec2", "--set", `queues=${queues}`]);
  hosts = await Promise.all([start("alice", 16), start("bob", 16), start("carol", 8)]);
}, 60_000);
afterAll(async () => {
  for (const host of hosts) await host[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

it("a guest's addresses and bytes are found where they are", () => {
  const words = [nowhere, low(nowhere), nowhere.toString(16), `0x${low(nowhere).toString(16)}`];
  for (const word of words) expect(leaksOf(`at ${word}.`)).toHaveLength(1);
  const { key } = request;
  const texts = [key.toString("latin1"), key.toString("hex"), key.toString("base64"), key.join()];
  for (const text of texts) expect(leaksOf(text)).toHaveLength(1);
  for (const before of [" ", "  "]) {
    expect(leaksOf(Buffer.from(before + key).toString("base64"))).toHaveLength(1);
  }
});

it("an operator reads nothing of a guest's, whatever it does and whatever is refused", async () => {
  const [alice, bob, carol] = hosts as [MigratingHost, MigratingHost, MigratingHost];
  const enough = new AbortController();
  const listening = Promise.allSettled(
    hosts.map(({ control }) =>
      askControl(control, { method: "migrate-events" }, { hear: say, enough: enough.signal }),
    ),
  );
  const look = async (...looked: MigratingHost[]): Promise<void> => {
    for (const host of looked) {
      for (const method of ["probe", "served", "manifest", "migrate-status"]) {
        say(await host.ask(method).catch(messageOf));
      }
    }
  };

  const device = new MovableDevice(connect(alice));
  const driver = new Sec2Driver(device, memory);
  work(driver);
  misuse(driver);
  driver.qm.reset();
  submitBadOnes(driver);
  work(driver);
  await look(...hosts);
  const stranger = connectUnix(alice.socket);
  writeSync(stranger, request.key);
  closeFd(stranger);

  const ram = new GuestRam(memory.memoryBytes);
  const there = connect(bob);
  driver.qm.memory.ram.mapThere(there, ram);
  device.wireThere(there);
  const offer = { from: "local", listen: `unix:${at("carol.mig")}` };
  const { address, token } = await carol.offer(offer);
  const vcpusStopped = true;
  const kept = await alice.migrate({ to: address, token, vcpusStopped });
  expect(kept.outcome).toBe("kept");
  work(driver);
  const to = `file:${at("good.state")}`;
  expect((await alice.migrate({ to, vcpusStopped })).outcome).toBe("moved");
  say(await ferry("state", "show", at("good.state")));
  for await (const from of tampered(at("good.state"))) {
    const refused = await bob.load({ from: `file:${from}` }).catch(messageOf);
    expect(refused, from).not.toHaveProperty("outcome", "moved");
    say(refused);
    await look(bob);
  }
  say(await bob.load({ from: to }));
  driver.qm.memory.ram.copyTo(ram);
  (device.moveTo(there) as RemoteDevice).close();
  driver.qm.memory.ram.moveTo(ram);
  work(driver);
  await look(...hosts);
  driver.close();
  there.close();
  device.forget();
  enough.abort();
  await listening;
  for (const host of hosts) {
    await host.ferry.stop();
    say([host.lines, host.ferry.noise, host.records]);
  }
  expect(said.length).toBeGreaterThan(100);
  expect(said.flatMap(leaksOf)).toEqual([]);
}, 120_000);
