/** What the accelerators compute for the guest, compared with what software computes. */
import {
  constants,
  createHash,
  generateKeyPairSync,
  getDiffieHellman,
  privateDecrypt,
  publicEncrypt,
  sign,
} from "node:crypto";
import { expect, test } from "vitest";
import { compareCommand, type Mode, usualMode } from "./hisi-algorithms.ts";
import type { HisiMachine } from "./hisi-machine.ts";

const pagesPerMiB = 256;

/** A program that gets less memory than it fills, and what it says when it found all data again. */
export const pressure = {
  command: "squeeze 2M pressure 3",
  pages: 3 * pagesPerMiB,
  result: `RESULT pressure ok pages=${3 * pagesPerMiB}`,
} as const;

export function modeTests(vm: HisiMachine, modes: readonly Mode[], totalBytes: number): void {
  for (const mode of modes) {
    test(`${mode.name} with a key of ${mode.key} bytes gives what software gives`, () =>
      expectSame(vm, mode, totalBytes));
  }
}

/** Every message makes two requests: there and back. */
async function expectSame(vm: HisiMachine, mode: Mode, totalBytes: number): Promise<void> {
  const work = () => vm.guest(compareCommand(mode, totalBytes));
  const [result, requests] = await vm.countRequests("sec2", work);
  const [, messages] = /^RESULT \S+ ok bytes=\d+ requests=(\d+)\n$/.exec(result) ?? [];
  expect(messages, result).toBeDefined();
  expect(requests).toBeGreaterThanOrEqual(2 * Number(messages));
}

export const expectCiphers = (vm: HisiMachine): Promise<void> =>
  expectSame(vm, usualMode(vm.suite), 1 << 20);

export function zipTests(vm: HisiMachine): void {
  test("zswap compresses with it under memory pressure, and the data survives", async () => {
    await vm.guest("swap deflate");
    await expectSwapped(vm);
  });
}

/** A program that gets too little memory finds all its data, which ZIP had in the meantime. */
export async function expectSwapped(vm: HisiMachine): Promise<void> {
  const [result, requests] = await vm.countRequests("zip", () => vm.guest(pressure.command));
  expect(result).toBe(`${pressure.result}\n`);
  expect(requests).toBeGreaterThan(pressure.pages);
}

export function hpreTests(vm: HisiMachine): void {
  const message = Buffer.from("three accelerators at once");
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const rsaKey = rsa.privateKey.export({ type: "pkcs8", format: "der" }).toString("hex");
  const { RSA_NO_PADDING: noPadding, RSA_PKCS1_PADDING: padding } = constants;

  for (const group of ["modp5", "modp14", "modp15"] as const) {
    test(`Diffie-Hellman in ${group} agrees with OpenSSL`, () => expectDiffieHellman(vm, group));
  }

  test("RSA encrypts what OpenSSL decrypts", async () => {
    const args = `${rsaKey} enc=pkcs1 ${message.toString("hex")}`;
    const encrypted = await computed(vm, `keys encrypt ${args}`);
    // Node 20 takes no padding of PKCS #1 v1.5 away: bytes 0 and 2, others, 0 and the message.
    const unpadded = privateDecrypt({ key: rsa.privateKey, padding: noPadding }, encrypted);
    expect(unpadded.subarray(0, 2)).toEqual(Buffer.of(0, 2));
    expect(unpadded.subarray(-message.length - 1)).toEqual(Buffer.of(0, ...message));
  });

  test("RSA decrypts what OpenSSL encrypted", async () => {
    const encrypted = publicEncrypt({ key: rsa.publicKey, padding }, message).toString("hex");
    expect(await computed(vm, `keys decrypt ${rsaKey} enc=pkcs1 ${encrypted}`)).toEqual(message);
  });

  test("RSA signs as OpenSSL does", async () => {
    const digest = createHash("sha256").update(message).digest("hex");
    const args = `${rsaKey} 'enc=pkcs1 hash=sha256' ${digest}`;
    const signature = await computed(vm, `keys sign ${args}`);
    expect(signature).toEqual(sign("sha256", message, rsa.privateKey));
  });
}

/** Not every one writes a number's leading zeros. */
export const numberOf = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString("hex")}`);

/** The guest's command for a number to the power of another, modulo a prime. */
export function powerCommand(prime: Buffer, base: Buffer, exponent: Buffer): string {
  const hex = [prime, base, exponent].map((number) => number.toString("hex"));
  return `keys dh ${hex.join(" ")}`;
}

export async function expectDiffieHellman(
  vm: HisiMachine,
  group: "modp5" | "modp14" | "modp15",
): Promise<void> {
  const [own, other] = [getDiffieHellman(group), getDiffieHellman(group)];
  const [, otherKey] = [own.generateKeys(), other.generateKeys()];
  const power = async (base: Buffer) =>
    numberOf(await computed(vm, powerCommand(own.getPrime(), base, own.getPrivateKey())));
  // The driver has a request of its own for the base 2, which these groups have.
  expect(await power(own.getGenerator())).toBe(numberOf(own.getPublicKey()));
  expect(await power(otherKey)).toBe(numberOf(own.computeSecret(otherKey)));
}

/** The guest's `keys` computes something, by requests to HPRE. */
async function computed(vm: HisiMachine, command: string): Promise<Buffer> {
  const [output, requests] = await vm.countRequests("hpre", () => vm.guest(command));
  const [, hex] = /^RESULT \S+ ok ([0-9a-f]+)\n$/.exec(output) ?? [];
  expect(hex, output).toBeDefined();
  expect(requests).toBeGreaterThan(0);
  return Buffer.from(hex!, "hex");
}
