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
import type { VfioDevice } from "../device/vfio-device.ts";
import type { EngineDriverOptions } from "./engine-options.ts";
import { HpreDriver } from "./hpre-driver.ts";
import { expectBytes, type Work, type Workload } from "./work.ts";

const rsaBits = [1024, 2048] as const;
/** RFC 3526's groups of 1536 and 2048 bits; their generator is 2. */
const groups = ["modp5", "modp14"] as const;
const curves = ["prime256v1", "secp384r1"] as const;

const decoded = (text: string | undefined): Uint8Array => Buffer.from(text ?? "", "base64url");

/** A result of node:crypto as long as the device gives it. */
function padded(number: Uint8Array, bytes: number): Uint8Array {
  return Buffer.concat([new Uint8Array(bytes - number.length), number]);
}

function rsaWorks(driver: HpreDriver, modulusLength: number): Work[] {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength });
  const { n, e, d } = privateKey.export({ format: "jwk" });
  const [modulus, exponent, secret] = [decoded(n), decoded(e), decoded(d)];
  const bytes = modulus.length;
  const message = randomBytes(bytes);
  message[0] = 0;
  const padding = constants.RSA_NO_PADDING;
  const encrypted = publicEncrypt({ key: publicKey, padding }, message);
  const signed = privateEncrypt({ key: privateKey, padding }, message);
  return [
    {
      ...{ name: `rsa-${modulusLength} public`, bytes },
      start: () => expectBytes(driver.submitRsa(modulus, exponent, message), encrypted),
    },
    {
      ...{ name: `rsa-${modulusLength} private`, bytes },
      start: () => expectBytes(driver.submitRsa(modulus, secret, message), signed),
    },
  ];
}

function dhWorks(driver: HpreDriver, group: string): Work[] {
  const [alice, bob] = [getDiffieHellman(group), getDiffieHellman(group)];
  const [own, peer] = [alice.generateKeys(), bob.generateKeys()];
  const [prime, secret] = [alice.getPrime(), alice.getPrivateKey()];
  const { length: bytes } = prime;
  const ownPublic = padded(own, bytes);
  const shared = padded(alice.computeSecret(peer), bytes);
  return [
    {
      ...{ name: `dh-${8 * bytes} public key`, bytes },
      start: () => expectBytes(driver.submitDh(prime, secret, null), ownPublic),
    },
    {
      ...{ name: `dh-${8 * bytes} secret`, bytes },
      start: () => expectBytes(driver.submitDh(prime, secret, peer), shared),
    },
  ];
}

/** Alice's secret times Bob's point is Bob's secret times Alice's: the whole point is not told. */
function ecdhWork(driver: HpreDriver, curve: (typeof curves)[number]): Work {
  const [alice, bob] = [createECDH(curve), createECDH(curve)];
  alice.generateKeys();
  const point = bob.generateKeys().subarray(1);
  const bytes = point.length / 2;
  const peer = { x: point.subarray(0, bytes), y: point.subarray(bytes) };
  const shared = alice.computeSecret(bob.getPublicKey());
  return {
    ...{ name: `ecdh ${curve}`, bytes },
    start() {
      const call = driver.submitEcdh(curve, alice.getPrivateKey(), peer);
      const correct = () => Buffer.compare(call.value.subarray(0, bytes), shared) === 0;
      return { call, correct };
    },
  };
}

function x25519Work(driver: HpreDriver): Work {
  const [alice, bob] = [generateKeyPairSync("x25519"), generateKeyPairSync("x25519")];
  const secret = decoded(alice.privateKey.export({ format: "jwk" }).d);
  const peer = decoded(bob.publicKey.export({ format: "jwk" }).x);
  const shared = diffieHellman({ privateKey: alice.privateKey, publicKey: bob.publicKey });
  return {
    ...{ name: "x25519", bytes: shared.length },
    start: () => expectBytes(driver.submitX25519(secret, peer), shared),
  };
}

/** Public key operations of the device's, held against OpenSSL's. */
export function hpreWorkload(device: VfioDevice, options: EngineDriverOptions): Workload {
  const driver = new HpreDriver(device, options);
  return {
    device: "hisi-hpre",
    qm: driver.qm,
    works: [
      ...rsaBits.flatMap((bits) => rsaWorks(driver, bits)),
      ...groups.flatMap((group) => dhWorks(driver, group)),
      ...curves.map((curve) => ecdhWork(driver, curve)),
      x25519Work(driver),
    ],
  };
}
