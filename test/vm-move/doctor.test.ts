/** What `ferry vm doctor` finds: each thing that would be in the way of a move, and what to do. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DeviceServer, readStatus } from "../../src/vm/device-server.ts";
import { Doctor } from "../../src/vm/doctor.ts";
import { Qemu } from "../../src/vm/qemu.ts";
import { ferry } from "../cli/run.ts";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import type { Side } from "./fake-device.ts";
import { VmWorld } from "./world.ts";

let world: VmWorld;

beforeEach(() => {
  world = new VmWorld();
});
afterEach(() => world.end());

async function look(side: Side = "source", path = world.first.path(side)): Promise<Doctor> {
  const qemu = await Qemu.connect(world.monitors[side].path);
  const server = new DeviceServer(path);
  const doctor = new Doctor(qemu, new Map([[null, server]]));
  await doctor.look();
  qemu.close();
  server.close();
  return doctor;
}

const problems = ({ findings }: Doctor) => findings.filter(({ ok }) => !ok);

describe("a VM that can move", () => {
  it("has no problem on either side, and nothing is changed by the look", async () => {
    const source = await look();
    expect(problems(source)).toEqual([]);
    expect(source.role).toBe("source");
    const target = await look("target");
    expect(problems(target)).toEqual([]);
    expect(target.role).toBe("target");
    expect(world.log).toEqual([]);
  });

  it("has no places yet when it is a target, and no configuration space in memory", async () => {
    const { findings } = await look("target");
    const said = findings.map(({ what, says }) => `${what}: ${says}`);
    expect(said).toContain("machine: virt-11.1-machine");
    expect(said).toContain("acc: at pcie.0/01.0/00.0, as it has to be at its source");
    expect(said).toContain(`acc: ${world.first.path("target")} serves such a device`);
    world.devices.target = ["device[0]"];
    expect(problems(await look("target")).map(({ says }) => says)).toEqual([
      "it has no id of its own",
    ]);
  });
});

it.each([
  [() => {}, "nothing is in the way; memory goes by one stream, and has to on the other side"],
  [() => (world.channels.source = 4), /; memory goes by multifd of 4 channels, none, and has to /],
  [() => world.capabilities.push({ capability: "xbzrle", state: true }), /^nothing is in the way;/],
  [
    () => world.capabilities.push({ capability: "dirty-limit", state: true }),
    /^never tried: dirty-limit; memory goes by one stream/,
  ],
])("what QEMU is set to is told where it matters (%#)", async (set, says) => {
  set();
  const { findings } = await look();
  const found = findings.find(({ what }) => what === "capabilities");
  expect(found).toMatchObject({ ok: true, says: expect.stringMatching(says) });
});

describe("a problem is named, with what to do", () => {
  const cases: ReadonlyArray<
    readonly [what: string, spoil: () => void, finding: string, says: RegExp, todo: RegExp]
  > = [
    [
      "an old QEMU",
      () => void (world.version = { major: 10, minor: 0, micro: 3 }),
      ...(["version", /QEMU 10\.0\.3/, /10\.1 or newer/] as const),
    ],
    [
      "a VM that is paused",
      () => void (world.state.source = "paused"),
      ...(["state", /is paused/, /cont.*-incoming defer -S/] as const),
    ],
    [
      "memory that is not shared",
      () => void (world.backends = [{ id: "ram", share: false }]),
      ...(["memory", /not shared: ram/, /share=on/] as const),
    ],
    [
      "memory without a backend",
      () => void (world.backends = []),
      ...(["memory", /no memory backend/, /share=on/] as const),
    ],
    [
      "a capability that a device cannot go with",
      () => void world.capabilities.push({ capability: "postcopy-ram", state: true }),
      ...(["capabilities", /is set to postcopy-ram.*switch it off/, /^$/] as const),
    ],
    [
      "something that QEMU cannot migrate",
      () => void (world.blocked = { "blocked-reasons": ["9pfs is mounted."] }),
      ...(["blockers", /9pfs is mounted/, /cannot migrate/] as const),
    ],
    [
      "a VM without such a device",
      () => void (world.devices.source = []),
      ...(["devices", /no vfio-user device/, /QEMU alone/] as const),
    ],
    [
      "a device without an id",
      () => void (world.devices.source = ["device[0]"]),
      ...(["device[0]", /no id of its own/, /id=NAME/] as const),
    ],
    [
      "a server that no VMM uses",
      () => void (world.first.connected = false),
      ...(["acc", /serves no VM/, /start QEMU/] as const),
    ],
    [
      "the server of another VM",
      () => void (world.first.serves.source = false),
      ...(["acc", /serves another VM/, /socket that this device was given/] as const),
    ],
    [
      "a device that is on offer",
      () => void (world.first.status = { ...world.first.status, offers: 1 }),
      ...(["acc", /on offer or on its way/, /migrate abort/] as const),
    ],
    [
      "a device that its VMM migrates",
      () => void (world.first.status = { ...world.first.status, port: { master: "vmm" } }),
      ...(["acc", /its VMM is migrating it/, /migrate abort/] as const),
    ],
    [
      "a device without a migration driver",
      () =>
        void (world.first.status = {
          error: "hello has no migration driver.",
          code: "not-migratable",
        }),
      ...(["acc", /no migration driver/, /--driver/] as const),
    ],
  ];

  for (const [what, spoil, finding, says, todo] of cases) {
    it(what, async () => {
      spoil();
      expect(problems(await look())).toEqual([
        {
          what: finding,
          ok: false,
          says: expect.stringMatching(says),
          todo: expect.stringMatching(todo),
        },
      ]);
    });
  }

  it("a server that is not there", async () => {
    const [only, ...more] = problems(await look("source", "/not/there"));
    expect(more).toEqual([]);
    expect(only?.says).toMatch(/the control socket \/not\/there cannot be used/);
  });

  it("a server of a device that the VM does not have", async () => {
    const qemu = await Qemu.connect(world.monitors.source.path);
    const server = new DeviceServer(world.first.path("source"));
    const doctor = new Doctor(qemu, new Map([["zip", server]]));
    await doctor.look();
    qemu.close();
    server.close();
    expect(problems(doctor).map(({ says }) => says)).toEqual(["the VM has no zip"]);
  });
});

it("what a server says of its migration is read as it says it", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "hello.sock");
  await using _ferry = await Ferry.start(["hello", "--socket-path", path]);
  const server = new DeviceServer(path);
  const ask = async () => readStatus(await server.ask({ method: "migrate-status" }));
  const free = { driver: "native", version: expect.any(Number), master: "none", isOpen: false };
  expect(await ask()).toEqual(free);
  const listen = `unix:${join(folder.path, "link")}`;
  await server.ask({ method: "migrate-offer", from: "bob", listen });
  expect(await ask()).toEqual({ ...free, isOpen: true });
  server.close();
});

describe("ferry vm doctor", () => {
  const run = (...more: string[]) => ferry("vm", "doctor", world.monitors.source.path, ...more);

  it("prints a table and ends with 0 when the VM can leave", async () => {
    const { code, output, errors } = await run("--server", world.first.path("source"));
    expect({ code, errors }).toEqual({ code: 0, errors: "" });
    expect(output).toMatch(/^version {7}OK {7}QEMU 11\.1\.1 at /);
    expect(output).toMatch(/^acc {11}OK {7}its migration driver: hisi-acc 1$/m);
    expect(output).toMatch(/\nIt can leave with ferry vm migrate\.\n$/);
  });

  it("ends with 1 and says what to do; JSON has the same", async () => {
    world.backends = [];
    const { code, output } = await run();
    expect(code).toBe(1);
    expect(output).toMatch(/^memory {8}PROBLEM {2}there is no memory backend\n {23}start it with/m);
    expect(output).toMatch(/^acc {11}OK {7}its server was not asked/m);
    expect(output).toMatch(/\nOne problem\.\n$/);
    const asJson = await run("--json");
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.output)).toMatchObject({ ready: false, role: "source" });
  });

  it("says what is the matter with a monitor that is not there", async () => {
    const gone = await ferry("vm", "doctor", "/not/there");
    expect(gone.code).toBe(1);
    expect(gone.output).toMatch(
      /^monitor {2}PROBLEM {2}no monitor answers at \/not\/there: ENOENT/,
    );
    expect(gone.output).toMatch(/a -qmp unix:PATH,server=on,wait=off of its own/);
    const usage = await run("--device", "acc");
    expect(usage).toMatchObject({ code: 2, output: "" });
    expect(usage.errors).toContain("--device acc is no ID=SOCKET.");
  });
});
