/** The demonstration's driver: what a guest's driver would do with the device `hello`. */
import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { Connection } from "../client/connection.ts";
import { GuestRam } from "../client/guest-ram.ts";
import { RemoteDevice } from "../client/remote-device.ts";
import { IrqSetFlags, PciIrq, PciRegion } from "../spec/vfio.ts";
import { POLLIN } from "../sys/constants.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { ourMajor } from "../wire/negotiate.ts";
import { sizeText } from "./probe-report.ts";

/** One thing that was tried, and how it went. */
export interface Finding {
  readonly topic: string;
  readonly ok: boolean;
  readonly text: string;
}
type Tell = (topic: string, ok: boolean, text: string) => void;

/** The device's registers in BAR0, as its driver knows them. */
const Register = {
  magic: 0x00,
  counter: 0x04,
  doorbell: 0x08,
  echoSource: 0x10,
  echoTarget: 0x18,
  echoLength: 0x20,
  echoStatus: 0x24,
  echoStart: 0x28,
  scratch: 0x2c,
} as const;
const magic = "helo";
const statusFailed = 0x8000_0000;
const vectors = { doorbell: 0, echo: 1 } as const;

const answerTimeoutMs = 5000;
const rings = 3;
const readsTimed = 2000;
const echoBytes = 65_536;
const sourceIova = 0x10_0000;
const targetIova = 0x4000_0000;
const scratchValue = 0x5eed_f00d;

const micros = (ms: number): string => `${(ms * 1000).toFixed(ms < 0.1 ? 1 : 0)} µs`;

/** The device with its registers as numbers; a refused access ends the story. */
class Driver {
  readonly device: RemoteDevice;
  readonly eventfds: readonly number[];
  readonly #bytes = new Uint8Array(8);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #poll = new PollSet(3);

  constructor(device: RemoteDevice) {
    this.device = device;
    this.eventfds = Object.values(vectors).map(() => createEventfd());
  }

  read(register: number): number {
    this.#check("read", register, this.device.read(PciRegion.bar0, register, this.#bytes, 0, 4));
    return this.#view.getUint32(0, true);
  }

  write(register: number, value: number): void {
    this.#view.setUint32(0, value, true);
    this.#check("write", register, this.device.write(PciRegion.bar0, register, this.#bytes, 0, 4));
  }

  writeWide(register: number, value: number): void {
    this.#view.setBigUint64(0, BigInt(value), true);
    this.#check("write", register, this.device.write(PciRegion.bar0, register, this.#bytes, 0, 8));
  }

  #check(what: string, register: number, result: number): void {
    if (result >= 0) return;
    const { failure } = this.device.connection;
    const place = `bar0+0x${register.toString(16)}`;
    const why = failure === null ? "" : ` (${failure})`;
    throw new FerryError("demo-failed", `${what} at ${place}: ${errnoName(result)}${why}.`);
  }

  /** Has every vector signal its eventfd. */
  wire(): number {
    return this.device.setIrqs({
      index: PciIrq.msix,
      start: 0,
      count: this.eventfds.length,
      data: IrqSetFlags.mask.dataEventfd,
      action: IrqSetFlags.mask.actionTrigger,
      bytes: new Uint8Array(0),
      boolsAt: 0,
      fds: this.eventfds.map(duplicate),
    });
  }

  /** Waits for a vector's interrupt and serves the device's DMA meanwhile: how often it came. */
  awaitInterrupt(vector: number): number {
    const eventfd = this.eventfds[vector] as number;
    const endMs = performance.now() + answerTimeoutMs;
    for (;;) {
      const count = drainEventfd(eventfd);
      const left = Math.ceil(endMs - performance.now());
      if (count > 0 || left <= 0) return count;
      this.#poll.clear();
      this.#poll.add(eventfd, POLLIN);
      for (const { fd } of this.device.watches) this.#poll.add(fd, POLLIN);
      if (this.#poll.wait(left) > 0 && this.device.connection.poll() < 0) return 0;
    }
  }

  /** Has the device copy `length` bytes of guest memory; its status after the interrupt. */
  echo(length: number): number {
    this.writeWide(Register.echoSource, sourceIova);
    this.writeWide(Register.echoTarget, targetIova);
    this.write(Register.echoLength, length);
    this.write(Register.echoStart, 1);
    if (this.awaitInterrupt(vectors.echo) === 0) return statusFailed | errno.ETIMEDOUT;
    return this.read(Register.echoStatus);
  }

  close(): void {
    for (const eventfd of this.eventfds) closeFd(eventfd);
    this.device.close();
  }
}

function tellNegotiation(connection: Connection, tell: Tell): void {
  const { server, minor, dataBytesMax } = connection;
  const extras = [
    `${server.maxMsgFds} descriptors`,
    `${sizeText(dataBytesMax)} a message`,
    server.writeMultiple ? "grouped writes" : "single writes",
    connection.twinFd < 0 ? "one socket" : "a twin socket for DMA",
  ];
  tell("negotiated", true, `vfio-user ${ourMajor}.${minor}: ${extras.join(", ")}`);
}

function tellDevice({ device }: Driver, tell: Tell): void {
  const id = new Uint8Array(4);
  const result = device.read(PciRegion.config, 0, id, 0, 4);
  const words = new DataView(id.buffer);
  const digits = (at: number): string => words.getUint16(at, true).toString(16).padStart(4, "0");
  const regions = device.regions.filter(({ size }) => size > 0).length;
  const msix = device.irqs[PciIrq.msix]?.count ?? 0;
  const name = `${digits(0)}:${digits(2)}`;
  tell("found", result === 4 && msix > 1, `PCI ${name}, ${regions} regions, ${msix} MSI-X vectors`);
}

function tellRegisters(driver: Driver, tell: Tell): void {
  const word = driver.read(Register.magic);
  const letters = Array.from({ length: 4 }, (_, i) =>
    String.fromCharCode((word >>> (8 * i)) & 255),
  );
  driver.write(Register.scratch, scratchValue);
  const kept = driver.read(Register.scratch);
  const times: number[] = [];
  for (let i = 0; i < readsTimed; i++) {
    const start = performance.now();
    driver.read(Register.scratch);
    times.push(performance.now() - start);
  }
  const median = times.sort((a, b) => a - b)[readsTimed >>> 1] as number;
  const text = `MAGIC says "${letters.join("")}", SCRATCH keeps 0x${kept.toString(16)}`;
  const ok = letters.join("") === magic && kept === scratchValue;
  tell("registers", ok, `${text}; a read takes ${micros(median)} (median of ${readsTimed})`);
}

function tellDoorbell(driver: Driver, tell: Tell): void {
  const wired = driver.wire();
  let interrupts = 0;
  for (let i = 0; i < rings && wired === 0; i++) {
    driver.write(Register.doorbell, 1);
    interrupts += driver.awaitInterrupt(vectors.doorbell);
  }
  const counter = driver.read(Register.counter);
  const ok = wired === 0 && interrupts === rings && counter === rings;
  tell(
    "doorbell",
    ok,
    `rung ${rings} times: COUNTER ${counter}, ${interrupts} interrupts by eventfd`,
  );
}

/** Fills the first half of the memory with a pattern and clears the second, where the echo goes. */
function prepare(ram: GuestRam, seed: number): void {
  for (let i = 0; i < echoBytes; i++) ram.bytes[i] = (i * 31 + (i >>> 8) + seed) & 255;
  ram.bytes.fill(0, echoBytes, 2 * echoBytes);
}

function isEchoed(ram: GuestRam): boolean {
  for (let i = 0; i < echoBytes; i++) if (ram.bytes[i] !== ram.bytes[echoBytes + i]) return false;
  return true;
}

/** One echo through guest memory that the device reaches in one way or the other. */
function tellEcho(driver: Driver, ram: GuestRam, shared: boolean, tell: Tell): void {
  const { device } = driver;
  const source = ram.map(device, sourceIova, 0, echoBytes, { writable: false, shared });
  const target = ram.map(device, targetIova, echoBytes, echoBytes, { readable: false, shared });
  prepare(ram, shared ? 1 : 2);
  const before = device.connection.commandsServed;
  const start = performance.now();
  const status = source === 0 && target === 0 ? driver.echo(echoBytes) : statusFailed;
  const took = performance.now() - start;
  const messages = device.connection.commandsServed - before;
  const ok = status === 0 && isEchoed(ram) && messages > 0 === !shared;
  const how = shared ? "shared memory, no message" : `${messages} DMA messages`;
  const topic = shared ? "DMA, shared" : "DMA, messages";
  tell(topic, ok, `${sizeText(echoBytes)} echoed through ${how}, in ${micros(took)}`);
  ram.unmap(device, sourceIova, echoBytes);
  ram.unmap(device, targetIova, echoBytes);
}

/** The memory is unmapped now, so the device must not reach it. */
function tellRefusal(driver: Driver, ram: GuestRam, tell: Tell): void {
  prepare(ram, 3);
  const status = driver.echo(echoBytes);
  const untouched = ram.bytes.subarray(echoBytes, 2 * echoBytes).every((byte) => byte === 0);
  const ok = status === statusFailed + errno.EFAULT && untouched;
  const answer = status >= statusFailed ? errnoName(status - statusFailed) : "success";
  tell("unmapped", ok, `an echo after DMA_UNMAP ends with ${answer} and touches nothing`);
}

function tellReset(driver: Driver, tell: Tell): void {
  const result = driver.device.reset();
  const counter = driver.read(Register.counter);
  const kept = driver.read(Register.scratch);
  const ok = result === 0 && counter === 0 && kept === 0;
  tell("reset", ok, `DEVICE_RESET: COUNTER ${counter}, SCRATCH ${kept}`);
}

/** Drives the device behind a socket through everything it can, and tells how each part went. */
export function tellStory(socketPath: string, tell: Tell): void {
  const options = { timeoutMs: answerTimeoutMs, twinSocket: true };
  const connection = Connection.connect(socketPath, options);
  const ram = new GuestRam(2 * echoBytes);
  const driver = new Driver(new RemoteDevice(connection, "hello"));
  try {
    driver.device.attach(ram);
    tellNegotiation(connection, tell);
    tellDevice(driver, tell);
    tellRegisters(driver, tell);
    tellDoorbell(driver, tell);
    tellEcho(driver, ram, true, tell);
    tellEcho(driver, ram, false, tell);
    tellRefusal(driver, ram, tell);
    tellReset(driver, tell);
  } finally {
    driver.close();
    ram.close();
  }
}
