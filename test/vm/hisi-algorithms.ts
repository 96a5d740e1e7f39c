/** What the drivers of the accelerators register with the kernel, and how to try it. */

/** The drivers' names in `/proc/crypto`, of Linux 6.12. */
export const registered = {
  sec2: [
    ...["ecb(aes)", "cbc(aes)", "ctr(aes)", "xts(aes)", "cbc(sm4)", "ctr(sm4)", "xts(sm4)"],
    ...["ecb(des3_ede)", "cbc(des3_ede)", "ccm(aes)", "gcm(aes)", "ccm(sm4)", "gcm(sm4)"],
    ...["sha1", "sha256", "sha512"].map((hash) => `authenc(hmac(${hash}),cbc(aes))`),
  ].map((name) => `hisi_sec_${name}`),
  zip: ["hisi-deflate-acomp"],
  hpre: [
    ...["hpre-rsa", "hpre-dh", "hpre-curve25519"],
    ...["p192", "p256", "p384"].map((curve) => `hpre-ecdh-nist-${curve}`),
  ],
} as const;

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

function cipher(name: string, reference: string, key: number, iv: number): Mode {
  return { name, reference, type: "skcipher", key, iv, aad: 0, tag: 0, most: 96 << 10 };
}

/** The driver puts 16 bits of a CCM message's length into the first block: no longer ones. */
function sealed(name: string, reference: string, key: number, iv: number, tag = 16): Mode {
  const most = name.includes("ccm") ? 60 << 10 : 96 << 10;
  return { name, reference, type: "aead", key, iv, aad: 20, tag, most };
}

function authenc(hash: string, macKey: number, tag: number): Mode {
  const cbc = "cbc(aes-generic)";
  const reference = `authenc(hmac(${hash}-generic),${cbc})`;
  return sealed(`authenc(hmac(${hash}),cbc(aes))`, reference, macKey + 16, 16, tag);
}

const gcm = (block: string) => `gcm_base(ctr(${block}-generic),ghash-generic)`;
const ccm = (block: string) => `ccm_base(ctr(${block}-generic),cbcmac(${block}-generic))`;

/** Every mode of SEC2, with every length of an AES key. */
export const modes: readonly Mode[] = [
  ...[16, 24, 32].flatMap((key) => [
    cipher("ecb(aes)", "ecb(aes-generic)", key, 0),
    cipher("cbc(aes)", "cbc(aes-generic)", key, 16),
    cipher("ctr(aes)", "ctr(aes-generic)", key, 16),
    sealed("gcm(aes)", gcm("aes"), key, 12),
    sealed("ccm(aes)", ccm("aes"), key, 16),
  ]),
  ...[32, 64].map((key) => cipher("xts(aes)", "xts(ecb(aes-generic))", key, 16)),
  cipher("cbc(sm4)", "cbc(sm4-generic)", 16, 16),
  cipher("ctr(sm4)", "ctr(sm4-generic)", 16, 16),
  cipher("xts(sm4)", "xts(ecb(sm4-generic))", 32, 16),
  sealed("gcm(sm4)", gcm("sm4"), 16, 12),
  sealed("ccm(sm4)", ccm("sm4"), 16, 16),
  cipher("ecb(des3_ede)", "ecb(des3_ede-generic)", 24, 0),
  cipher("cbc(des3_ede)", "cbc(des3_ede-generic)", 24, 8),
  authenc("sha1", 20, 20),
  authenc("sha256", 32, 32),
  authenc("sha512", 64, 64),
];

/** Requests that the driver copies into a flat buffer, where there is an IOMMU: no longer ones. */
export const shortModes: readonly Mode[] = modes
  .filter(({ name, key }) => key !== 24 || name.includes("des3"))
  .map((mode) => ({ ...mode, most: 512 }));

/** The guest's command that compares the device with the software over `totalBytes`. */
export function compareCommand(mode: Mode, totalBytes: number): string {
  const names = `${mode.type} 'hisi_sec_${mode.name}' '${mode.reference}'`;
  return `afalg compare ${names} ${lengths(mode)} ${totalBytes}`;
}

/** The guest's command that keeps the device busy until the command `idle`. */
export function busyCommand(mode: Mode): string {
  return `busy ${mode.type} 'hisi_sec_${mode.name}' ${lengths(mode)}`;
}

function lengths({ key, iv, aad, tag, most }: Mode): string {
  return [key, iv, aad, tag, most].join(" ");
}
