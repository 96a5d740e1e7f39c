/** What the drivers of the accelerators register with the kernel, and how to try it. */
import { type Suite, suites } from "./recipe.ts";

/** The drivers' names in `/proc/crypto`, of the kernel of a suite. */
export function registered(suite: Suite) {
  const modes = [
    ...["ecb(aes)", "cbc(aes)", "ctr(aes)", "xts(aes)", "cbc(sm4)", "ctr(sm4)", "xts(sm4)"],
    ...["ecb(des3_ede)", "cbc(des3_ede)", "ccm(aes)", "gcm(aes)", "ccm(sm4)", "gcm(sm4)"],
    ...["sha1", "sha256", "sha512"].map((hash) => `authenc(hmac(${hash}),cbc(aes))`),
  ];
  const ecdh = ["p192", "p256", "p384"].map((curve) => `hpre-ecdh-nist-${curve}`);
  const curve25519 = suite === suites.stable ? ["hpre-curve25519"] : [];
  return {
    sec2: modes.map((name) => `hisi_sec_${name}`),
    zip: ["hisi-deflate-acomp"],
    hpre: ["hpre-rsa", "hpre-dh", ...ecdh, ...curve25519],
  } as const;
}

/** Arguments of the guest's `afalg compare`; lengths in bytes. */
export interface Mode {
  readonly name: string;
  /** The kernel's software, asked for by the name of the implementation. */
  readonly reference: string;
  readonly type: "skcipher" | "aead";
  readonly key: number;
  readonly iv: number;
  readonly aad: number;
  readonly tag: number;
  /** The longest request: AF_ALG takes no more than a socket's send buffer. */
  readonly most: number;
}

/** How a kernel names its software. */
interface Software {
  readonly cipher: (mode: string, block: string) => string;
  readonly cbcmac: (block: string) => string;
  readonly hmac: (hash: string) => string;
  readonly ghash: string;
}

/** All is put together from a block cipher and templates. */
const composed: Software = {
  cipher: (mode, block) =>
    mode === "xts" ? `xts(ecb(${block}-generic))` : `${mode}(${block}-generic)`,
  cbcmac: (block) => `cbcmac(${block}-generic)`,
  hmac: (hash) => `hmac(${hash}-generic)`,
  ghash: "ghash-generic",
};

/** From Linux 7 on, a library has AES and the hashes in one piece. */
const software: Record<Suite, Software> = {
  [suites.stable]: composed,
  [suites.backports]: {
    cipher: (mode, block) => (block === "aes" ? `${mode}-aes-lib` : composed.cipher(mode, block)),
    cbcmac: (block) => (block === "aes" ? "cbcmac-aes-lib" : composed.cbcmac(block)),
    hmac: (hash) => `hmac-${hash}-lib`,
    ghash: "ghash-lib",
  },
};

const aesKeys = [16, 24, 32] as const;

/** Every mode of SEC2 that is a plain cipher: its name, the lengths of its keys and of its IV. */
const ciphers = [
  ["ecb", "aes", aesKeys, 0],
  ["cbc", "aes", aesKeys, 16],
  ["ctr", "aes", aesKeys, 16],
  ["xts", "aes", [32, 64], 16],
  ["cbc", "sm4", [16], 16],
  ["ctr", "sm4", [16], 16],
  ["xts", "sm4", [32], 16],
  ["ecb", "des3_ede", [24], 0],
  ["cbc", "des3_ede", [24], 8],
] as const;

/** Those that authenticate too. The driver puts 16 bits of a CCM message's length into a block. */
const aeads = [
  ["gcm", "aes", aesKeys, 12, 96 << 10],
  ["ccm", "aes", aesKeys, 16, 60 << 10],
  ["gcm", "sm4", [16], 12, 96 << 10],
  ["ccm", "sm4", [16], 16, 60 << 10],
] as const;

/** The hashes that go with CBC, and the lengths of their keys and tags. */
const hashes = [
  ["sha1", 20],
  ["sha256", 32],
  ["sha512", 64],
] as const;

/** Every mode of SEC2, with every length of a key. */
export function modesOf(suite: Suite): Mode[] {
  const { cipher, cbcmac, hmac, ghash } = software[suite];
  const plain = ciphers.flatMap(([mode, block, keys, iv]) => {
    const names = { name: `${mode}(${block})`, reference: cipher(mode, block) };
    const rest = { type: "skcipher", iv, aad: 0, tag: 0, most: 96 << 10 } as const;
    return keys.map((key) => ({ ...names, ...rest, key }));
  });
  const sealed = aeads.flatMap(([mode, block, keys, iv, most]) => {
    const second = mode === "gcm" ? ghash : cbcmac(block);
    const reference = `${mode}_base(${cipher("ctr", block)},${second})`;
    const rest = { type: "aead", iv, aad: 20, tag: 16, most } as const;
    return keys.map((key) => ({ name: `${mode}(${block})`, reference, ...rest, key }));
  });
  const hashed = hashes.map(([hash, bytes]) => ({
    name: `authenc(hmac(${hash}),cbc(aes))`,
    reference: `authenc(${hmac(hash)},${cipher("cbc", "aes")})`,
    ...({ type: "aead", key: bytes + 16, iv: 16, aad: 20, tag: bytes, most: 96 << 10 } as const),
  }));
  return [...plain, ...sealed, ...hashed];
}

/** Requests that the driver copies into a flat buffer, where there is an IOMMU: no longer ones. */
export function shortModesOf(suite: Suite): Mode[] {
  return modesOf(suite)
    .filter(({ name, key }) => key !== 24 || name.includes("des3"))
    .map((mode) => ({ ...mode, most: 512 }));
}

/** The one with which tests that are not about modes keep SEC2 busy. */
export function usualMode(suite: Suite): Mode {
  return modesOf(suite).find(({ name, key }) => name === "cbc(aes)" && key === 32)!;
}

/** The guest's command that compares the device with the software over `totalBytes`. */
export function compareCommand(mode: Mode, totalBytes: number): string {
  const names = `${mode.type} 'hisi_sec_${mode.name}' '${mode.reference}'`;
  return `afalg compare ${names} ${lengths(mode)} ${totalBytes}`;
}

/** The guest's command that gives the device request upon request until SIGTERM. */
export function busyCommand(mode: Mode): string {
  return `afalg busy ${mode.type} 'hisi_sec_${mode.name}' ${lengths(mode)}`;
}

function lengths({ key, iv, aad, tag, most }: Mode): string {
  return [key, iv, aad, tag, most].join(" ");
}
