/**
 * The HiSilicon HPRE public key accelerator, revision V3: Linux 6.12
 * `drivers/crypto/hisilicon/hpre/hpre.h` and `hpre_crypto.c`, and UADK's `drv/hisi_hpre.c`. All
 * numbers of requests are big-endian and of fixed length, padded with zeros in front.
 */
import { bits } from "../base/bits.ts";
import { array, struct, u8, u32, u53, u64 } from "../base/struct.ts";

/** PCI device id of the VF, and its class: network and computing encryption device. */
export const hpreDeviceId = 0xa259;
export const hpreClassCode = 0x100000;

/**
 * The submission queue entry. The device writes `dw0`; `tag` is the driver's own. `taskLen1` is the
 * length of the operation's numbers in units of 8 bytes, minus 1.
 */
export const HpreSqe = struct("hpre_sqe", 64, {
  dw0: u32,
  taskLen1: u8,
  taskLen2: u8,
  mrttestNum: u8,
  resv1: u8,
  keyAddr: u53,
  inAddr: u53,
  outAddr: u53,
  tag: u64,
  reserved: array(u32, 6),
});

/**
 * `dw0`. The drivers set `done` to 1 and take a request for good when it is 3 and both errors are
 * 0.
 */
export const HpreDw0 = bits({
  algorithm: [4, 0],
  error: [15, 5],
  moreErrors: [29, 16],
  done: [31, 30],
});
/** The value of `HpreDw0.done` for a request that has ended, well or badly. */
export const hpreDone = 3;
/** The unit of `taskLen1`. */
export const hpreLengthUnit = 8;

/** Values of `HpreDw0.algorithm`. 2 and 3, which generate keys, are used by no driver. */
export const HpreAlgorithm = {
  rsa: 0x0,
  rsaCrt: 0x1,
  dhG2: 0x4,
  dh: 0x5,
  eccMultiply: 0xd,
  x25519: 0x10,
} as const;

/** The SQ context's algorithm type: what a queue may be asked for. */
export const HpreQueue = { rsaAndDh: 0, ecc: 1 } as const;

/**
 * What the model writes to `HpreDw0.error`. The drivers know only zero, good, from everything else,
 * so the numbers are the model's own and name what it refused.
 */
export const HpreError = {
  none: 0,
  algorithm: 1,
  length: 2,
  modulus: 3,
  operand: 4,
  curve: 5,
  point: 6,
  scalar: 7,
  unavailable: 8,
} as const;
export type HpreError = (typeof HpreError)[keyof typeof HpreError];

/** Bytes that the numbers of an operation may have. */
export const hpreNumberBytes = {
  rsa: [128, 256, 384, 512],
  dh: [96, 128, 192, 256, 384, 512],
  ecc: [32, 48],
  x25519: [32],
} as const;

/** A curve y^2 = x^3 + a x + b over the integers modulo p; its group has the prime order n. */
export interface PrimeCurve {
  /** As OpenSSL names it. */
  readonly name: string;
  /** Bytes of a coordinate. */
  readonly bytes: number;
  readonly p: bigint;
  readonly a: bigint;
  readonly b: bigint;
  readonly n: bigint;
}

/** A number that is too long for a line; `_` between the digits as in a literal. */
const hex = (...parts: readonly string[]): bigint =>
  BigInt(`0x${parts.join("").replaceAll("_", "")}`);

/** NIST SP 800-186, section 3.2.1; P-192: FIPS 186-4, D.1.2.1. On all of them a is p - 3. */
export const primeCurves: readonly PrimeCurve[] = [
  {
    name: "prime192v1",
    bytes: 24,
    p: 0xffffffff_ffffffff_ffffffff_fffffffe_ffffffff_ffffffffn,
    a: 0xffffffff_ffffffff_ffffffff_fffffffe_ffffffff_fffffffcn,
    b: 0x64210519_e59c80e7_0fa7e9ab_72243049_feb8deec_c146b9b1n,
    n: 0xffffffff_ffffffff_ffffffff_99def836_146bc9b1_b4d22831n,
  },
  {
    name: "prime256v1",
    bytes: 32,
    p: 0xffffffff_00000001_00000000_00000000_00000000_ffffffff_ffffffff_ffffffffn,
    a: 0xffffffff_00000001_00000000_00000000_00000000_ffffffff_ffffffff_fffffffcn,
    b: 0x5ac635d8_aa3a93e7_b3ebbd55_769886bc_651d06b0_cc53b0f6_3bce3c3e_27d2604bn,
    n: 0xffffffff_00000000_ffffffff_ffffffff_bce6faad_a7179e84_f3b9cac2_fc632551n,
  },
  {
    name: "secp384r1",
    bytes: 48,
    p: hex(
      "ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff",
      "ffffffff_fffffffe_ffffffff_00000000_00000000_ffffffff",
    ),
    a: hex(
      "ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff",
      "ffffffff_fffffffe_ffffffff_00000000_00000000_fffffffc",
    ),
    b: hex(
      "b3312fa7_e23ee7e4_988e056b_e3f82d19_181d9c6e_fe814112",
      "0314088f_5013875a_c656398d_8a2ed19d_2a85c8ed_d3ec2aef",
    ),
    n: hex(
      "ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff",
      "c7634d81_f4372ddf_581a0db2_48b0a77a_ecec196a_ccc52973",
    ),
  },
];

/**
 * RFC 7748, section 4.1. Requests carry (A - 2) / 4 where the other curves have a, which is what
 * the formulas of section 5 need.
 */
export const curve25519 = {
  p: 0x7fffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffedn,
  a24: 121_665n,
} as const;

/** Engine capability registers of BAR2: those of revision V3. */
export const hpreCapabilities: Readonly<Record<number, number>> = Object.fromEntries([
  [0x3124, 0x7c37],
  [0x3128, 0x6c77],
  [0x312c, 0x8],
  [0x3130, 0x01ff_fc3e],
  [0x3134, 0x00bf_fc3e],
  [0x3138, 0x1],
  [0x313c, 0x0012_0a0a],
  [0x3140, 0x3ff],
  [0x3144, 0x27],
  [0x3148, 0x7f],
  [0x314c, 0x7f],
  [0x3150, 0x7f],
  [0x3154, 0x7f],
  [0x3158, 0x7f],
  [0x315c, 0x7f],
  [0x3160, 0x7f],
  [0x3164, 0x7f],
  [0x3168, 0x7f],
  [0x316c, 0x10],
  [0x3170, 0x10],
]);
