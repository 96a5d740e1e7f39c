/** HPRE against node:crypto. */
import {
  constants,
  createECDH,
  diffieHellman,
  generateKeyPairSync,
  getDiffieHellman,
  privateEncrypt,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { HpreDriver } from "../../src/guest/hpre-driver.ts";
import type { Arena, Contest } from "./contest.ts";

const depth = 8;
const rsaBits = 2048;

const decoded = (text: string | undefined): Uint8Array => Buffer.from(text ?? "", "base64url");
const same = (value: unknown, expected: Uint8Array): boolean =>
  Buffer.compare((value as Uint8Array).subarray(0, expected.length), expected) === 0;

function rsa(driver: HpreDriver): Contest[] {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: rsaBits });
  const jwk = privateKey.export({ format: "jwk" });
  const [modulus, exponent, secret] = [decoded(jwk.n), decoded(jwk.e), decoded(jwk.d)];
  const message = randomBytes(modulus.length);
  message[0] = 0;
  const padding = constants.RSA_NO_PADDING;
  const encrypt = () => publicEncrypt({ key: publicKey, padding }, message);
  const sign = () => privateEncrypt({ key: privateKey, padding }, message);
  const [encrypted, signed] = [encrypt(), sign()];
  const bytes = modulus.length;
  return [
    {
      ...{ name: "rsa public", bytes, direct: encrypt },
      submit: () => driver.submitRsa(modulus, exponent, message),
      correct: (value) => same(value, encrypted),
    },
    {
      ...{ name: "rsa private, without CRT", bytes, direct: sign },
      submit: () => driver.submitRsa(modulus, secret, message),
      correct: (value) => same(value, signed),
    },
  ];
}

function dh(driver: HpreDriver): Contest {
  const [alice, bob] = [getDiffieHellman("modp14"), getDiffieHellman("modp14")];
  alice.generateKeys();
  const peer = bob.generateKeys();
  const [prime, secret] = [alice.getPrime(), alice.getPrivateKey()];
  const shared = alice.computeSecret(peer);
  const padded = Buffer.concat([new Uint8Array(prime.length - shared.length), shared]);
  return {
    ...{ name: "dh modp14 secret", bytes: prime.length },
    submit: () => driver.submitDh(prime, secret, peer),
    correct: (value) => same(value, padded),
    direct: () => alice.computeSecret(peer),
  };
}

function ecdh(driver: HpreDriver): Contest {
  const [alice, bob] = [createECDH("prime256v1"), createECDH("prime256v1")];
  alice.generateKeys();
  const point = bob.generateKeys();
  const bytes = (point.length - 1) / 2;
  const peer = { x: point.subarray(1, 1 + bytes), y: point.subarray(1 + bytes) };
  const secret = alice.getPrivateKey();
  const shared = alice.computeSecret(point);
  return {
    ...{ name: "ecdh prime256v1", bytes },
    submit: () => driver.submitEcdh("prime256v1", secret, peer),
    correct: (value) => same(value, shared),
    direct: () => alice.computeSecret(point),
  };
}

function x25519(driver: HpreDriver): Contest {
  const { privateKey } = generateKeyPairSync("x25519");
  const { publicKey } = generateKeyPairSync("x25519");
  const secret = decoded(privateKey.export({ format: "jwk" }).d);
  const peer = decoded(publicKey.export({ format: "jwk" }).x);
  const run = () => diffieHellman({ privateKey, publicKey });
  const shared = run();
  return {
    ...{ name: "x25519", bytes: shared.length, direct: run },
    submit: () => driver.submitX25519(secret, peer),
    correct: (value) => same(value, shared),
  };
}

/** With interrupts: it computes in threads, which looking again and again would keep from it. */
export function hpreArena(device: VfioDevice): Arena {
  const driver = new HpreDriver(device, { depth });
  const contests = [...rsa(driver), dh(driver), ecdh(driver), x25519(driver)];
  return { qm: driver.qm, depth, contests };
}
