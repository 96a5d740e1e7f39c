/** The two servers of one device as a VM's migration meets them, scripted. */
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { DeviceServer } from "../../src/vm/device-server.ts";
import type { Meeting } from "../../src/vm/meeting.ts";
import { VmDevice } from "../../src/vm/vm-device.ts";

export type Side = "source" | "target";
export const sides = ["source", "target"] as const;

export const vendor = 0x19e5;
export const deviceId = 0xa256;

/** Where MSI has its pending bits. */
export const msiPendingAt = 0x98;

/** Configuration space as the guest has set it up. */
const config = {
  header: [
    { name: "VENDOR_ID", at: 0, size: 2, value: vendor },
    { name: "DEVICE_ID", at: 2, size: 2, value: deviceId },
    { name: "BAR0", at: 0x10, size: 4, value: 0x1000_0004 },
  ],
  msi: [
    { name: "MESSAGE_CONTROL", at: 0x86, size: 2 },
    { name: "MESSAGE_ADDRESS", at: 0x88, size: 4, value: 0x0808_0040 },
  ],
};

/** Of what is asked, what is looked at. */
interface FakeRequest {
  readonly method: string;
  readonly thaw?: string;
  readonly from?: string;
  readonly listen?: string;
  readonly peer?: string;
  readonly pki?: string;
  readonly sendWrites?: boolean;
}

/** The table is in BAR 0, at 0x2000, and its pending bits behind it. */
const msixOf = (control: number | null) =>
  control === null
    ? []
    : [
        {
          name: "msix",
          registers: [
            { name: "MESSAGE_CONTROL", at: 0xa2, size: 2, value: control },
            { name: "TABLE", at: 0xa4, size: 4, value: 0x2000 },
            { name: "PENDING", at: 0xa8, size: 4, value: 0x3000 },
          ],
        },
      ];

const masksOf = (value: number | null) =>
  value === null
    ? []
    : [
        { name: "MASK", at: 0x94, size: 4, value },
        { name: "PENDING", at: msiPendingAt, size: 4, value: 0 },
      ];

export class FakeDevice {
  readonly id: string;
  /** Its bus, on which it is the first function. */
  readonly bus: number;
  /** MSI-X's message control, of two vectors that are off; null for a device that has none. */
  msix: number | null = null;
  /** What the source's QEMU has of its table, in words. */
  table: number[] = [];
  /** Its interrupt pin; 0 for none. */
  pin = 0;
  command = 0x406;
  msi = 0x01a5;
  /** Which vectors of MSI the guest masks, where it can, and which of them QEMU keeps back. */
  masks: number | null = null;
  kept = 0;
  /** For how many reads its line stays up, and what can be read; null: it cannot tell. */
  line: { up: number; readonly quiet: object | null } | null = { up: 0, quiet: null };
  /** What is answered instead of that. */
  lineAnswer: object | null = null;
  /** Does the source's QEMU keep a message back? */
  pending = false;
  served = { source: 10, target: 10 };
  /** Whether each server serves the QEMU of its side. */
  serves = { source: true, target: true };
  /** What the target does when the hand-over is up to it. */
  verdict: "moved" | "moved, the target late" | "kept" | "silent" = "moved";
  /** Is the line to the source lost as it is told to hand over, and nothing else? */
  losesLine = false;
  /** Does the device get as far as before its hand-over? */
  pauses = true;
  /** Is its migration over before it is to stand still? */
  ends = false;
  /** Does the target take its state? */
  loads = true;
  /** Where its servers meet, and what each was told of that. */
  link: Meeting = { address: "unix:/link", from: "local" };
  readonly told: Partial<Record<Side, FakeRequest>> = {};
  /** Was the source told to send what it writes? */
  sends = false;
  /** What its servers say of its migration. */
  status: object = {
    compatibility: {
      ...{ driver: "hisi-acc", version: 1, oldestVersion: 1 },
      ...{ vendor, device: deviceId, revision: 0, facts: {} },
    },
    port: { master: "none" },
    offers: 0,
    migration: null,
  };
  /** Does a VMM have it? */
  connected = true;
  /** How the target was told to set it going. */
  thaw = "";
  /** Does it come back when it has to? */
  returns = true;
  /** What it waits for before it does. */
  returnsAfter: Promise<void> = Promise.resolve();
  /** Servers that have ended. */
  readonly #dead = new Set<Side>();
  readonly #folder: string;
  readonly #servers: Server[] = [];
  /** Writes down what is asked; a sentence refuses it. */
  readonly #asked: (what: string) => string | undefined;
  /** Where the migration that goes on was begun. */
  #begun: Socket | null = null;
  #follower: Socket | null = null;
  #continued = 0;

  constructor(
    folder: string,
    id: string,
    bus: number,
    asked: (what: string) => string | undefined,
  ) {
    this.#folder = folder;
    this.id = id;
    this.bus = bus;
    this.#asked = asked;
    for (const side of sides) this.#serve(side);
  }

  /** How the log calls one of its servers: the first device's have no more than their side. */
  #name(side: Side): string {
    return this.bus === 1 ? side : `${side} ${this.id}`;
  }

  path(side: Side): string {
    return join(this.#folder, this.#name(side).replace(" ", "-"));
  }

  #serve(side: Side): void {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.setEncoding("utf8").on("data", (text: string) => {
        for (const line of text.trim().split("\n")) this.#hear(side, socket, JSON.parse(line));
      });
    });
    server.listen(`${this.path(side)}.ctl`);
    this.#servers.push(server);
  }

  #hear(side: Side, socket: Socket, request: FakeRequest): void {
    if (this.#dead.has(side)) return void socket.destroy();
    const { method } = request;
    const say = (value: object): boolean => socket.write(`${JSON.stringify(value)}\n`);
    if (method === "probe") return void say(this.#probe(side));
    if (method === "served") return void say({ served: [this.served[side]] });
    if (method === "migrate-status") return void say(this.status);
    const why = this.#asked(`${this.#name(side)} ${method}`);
    if (why !== undefined) return void say({ error: why, code: "refused" });
    if (method === "hold-line") return void say(this.lineAnswer ?? { line: this.#line() });
    if (method === "migrate" || method === "migrate-offer") this.told[side] = request;
    if (method === "migrate-offer") {
      if (side === "target") this.thaw = request.thaw ?? "";
      say({ token: "f".repeat(32), address: "unix:/nowhere" });
    } else if (method === "migrate-events") this.#follower = socket;
    else if (method === "migrate-continue" && this.ends) {
      say({ error: "the migration is not paused", code: "not-paused" });
      this.breakOff();
    } else if (method === "migrate") {
      if (side === "source") this.sends = request.sendWrites ?? false;
      this.#begin(side, socket);
    } else {
      say({ done: true });
      if (method === "migrate-abort") this.#end("kept", "The device stays here.");
      else if (method === "migrate-continue") this.#continue();
    }
  }

  /** What begins at the target is the way back of a device that stands still there. */
  #begin(side: Side, source: Socket): void {
    this.#begun = source;
    if (side === "source") this.#paused("freeze");
    else void this.returnsAfter.then(() => this.#return());
  }

  #return(): void {
    if (this.returns) this.#end("moved", "The device has moved.");
    else this.#end("kept", "It stays where it is.");
  }

  #continue(): void {
    this.#continued += 1;
    if (this.#continued === 2 && this.losesLine) {
      this.#begun?.destroy();
      this.status = { ...this.status, migration: { report: { outcome: null } } };
      return;
    }
    if (this.#continued > 1) this.#decide();
    else if (this.pauses) {
      this.#tell({ kind: "phase", phase: "save", step: "ends" });
      if (this.loads) this.#paused("hand over");
      else this.#end("kept", "The device stays here: its state was refused.");
    }
  }

  #line(): object | null {
    return this.line === null ? null : { up: this.line.up > 0, quiet: this.line.quiet };
  }

  #probe(side: Side): object {
    const [control, ...address] = config.msi;
    const registers = [{ ...control, value: this.msi }, ...address, ...masksOf(this.masks)];
    const msi = { name: "msi", registers };
    const header = [
      ...config.header,
      { name: "COMMAND", at: 4, size: 2, value: this.command },
      { name: "INTERRUPT_PIN", at: 0x3d, size: 1, value: this.pin },
    ];
    const described = { config: { header, capabilities: [msi, ...msixOf(this.msix)] } };
    const { connected } = this;
    return { devices: [{ connected, served: this.served[side], device: described }] };
  }

  #paused(before: string): void {
    this.#tell({ kind: "paused", before });
  }

  #tell(event: object): void {
    this.#begun?.write(`${JSON.stringify({ event })}\n`);
  }

  #decide(): void {
    if (this.verdict === "kept") this.#end("kept", "The target has decided against it.");
    else if (this.verdict === "silent") this.#begun?.destroy();
    else {
      const event = { kind: "phase", phase: "thaw", step: "ends" };
      if (this.verdict === "moved") this.#follower?.write(`${JSON.stringify({ event })}\n`);
      this.#end("moved", "The device has moved.");
    }
  }

  #end(outcome: string, sentence: string): void {
    if (this.losesLine && this.#continued > 2) {
      this.status = { ...this.status, migration: { report: { outcome: { outcome, sentence } } } };
    }
    this.#begun?.write(`${JSON.stringify({ outcome, sentence })}\n`);
  }

  /** Its way ends before it has gone. */
  breakOff(): void {
    this.#end("kept", "The device stays here: the link is lost.");
  }

  /** A server ends, and all that was said to it has no answer. */
  kill(side: Side): void {
    this.#dead.add(side);
    if (side === "source") this.#begun?.destroy();
  }

  /** As a VM's migration is given it, under a name or as the only one. */
  named(id: string | null): VmDevice {
    const [from, to] = [
      new DeviceServer(this.path("source")),
      new DeviceServer(this.path("target")),
    ];
    return new VmDevice(id, from, to, { link: this.link, home: this.link });
  }

  end(): void {
    for (const server of this.#servers) server.close();
    this.#begun?.destroy();
  }
}
