/**
 * Certificates for hosts that migrate devices to each other: an authority, and for each host a
 * folder with its certificate, whose name is the host's, and its key.
 */
import { generateKeyPair, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import forge from "node-forge";
import { FerryError } from "../base/errors.ts";
import { pkiFiles } from "../host/links/tls.ts";

const { pki, md } = forge;
/** How long they hold, and how long their keys are for that. */
const authorityYears = 10;
const authorityBits = 3072;
const hostYears = 1;
const hostBits = 2048;
const authorityName = "vfio-ferry authority";
const authorityFiles = { cert: "ca.pem", key: "ca.key" } as const;
/** What a host may be called: a DNS name, or a word like one. */
const hostName = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$/;

/** Who signs. */
export interface Authority {
  readonly cert: forge.pki.Certificate;
  readonly key: forge.pki.rsa.PrivateKey;
}

interface Keys {
  readonly publicKey: forge.pki.rsa.PublicKey;
  readonly privateKey: forge.pki.rsa.PrivateKey;
}

async function makeKeys(modulusLength: number): Promise<Keys> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)("rsa", {
    modulusLength,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  return {
    publicKey: pki.publicKeyFromPem(publicKey) as forge.pki.rsa.PublicKey,
    privateKey: pki.privateKeyFromPem(privateKey) as forge.pki.rsa.PrivateKey,
  };
}

const subject = (name: string): forge.pki.CertificateField[] => [
  { name: "commonName", value: name },
];

function certificate(name: string, publicKey: forge.pki.rsa.PublicKey, years: number) {
  const cert = pki.createCertificate();
  cert.publicKey = publicKey;
  // A serial number is positive, so its first bit is 0.
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  cert.serialNumber = serial.toString("hex");
  cert.validity.notBefore = new Date();
  cert.validity.notAfter = new Date();
  cert.validity.notAfter.setFullYear(cert.validity.notAfter.getFullYear() + years);
  cert.setSubject(subject(name));
  cert.setIssuer(subject(authorityName));
  return cert;
}

const writeSecret = (path: string, text: string): void =>
  writeFileSync(path, text, { mode: 0o600, flag: "wx" });
const writePublic = (path: string, text: string): void =>
  writeFileSync(path, text, { mode: 0o644, flag: "wx" });

/** The authority of a folder; it is made when there is none. */
export async function makeAuthority(folder: string): Promise<Authority> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const paths = { cert: join(folder, authorityFiles.cert), key: join(folder, authorityFiles.key) };
  if (existsSync(paths.cert) && existsSync(paths.key)) {
    return {
      cert: pki.certificateFromPem(readFileSync(paths.cert, "utf8")),
      key: pki.privateKeyFromPem(readFileSync(paths.key, "utf8")) as forge.pki.rsa.PrivateKey,
    };
  }
  const { publicKey, privateKey } = await makeKeys(authorityBits);
  const cert = certificate(authorityName, publicKey, authorityYears);
  cert.setExtensions([
    { name: "basicConstraints", cA: true, pathLenConstraint: 0, critical: true },
    { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    { name: "subjectKeyIdentifier" },
  ]);
  cert.sign(privateKey, md.sha256.create());
  writeSecret(paths.key, pki.privateKeyToPem(privateKey));
  writePublic(paths.cert, pki.certificateToPem(cert));
  return { cert, key: privateKey };
}

/** Makes a host's folder within that of its authority, and says where it is. */
export async function makeHost(
  folder: string,
  { cert: authority, key }: Authority,
  name: string,
): Promise<string> {
  if (!hostName.test(name)) {
    const rule = "letters, digits, dots and dashes, at most 63 of them";
    throw new FerryError(
      "bad-argument",
      `${JSON.stringify(name)} cannot name a host: use ${rule}.`,
    );
  }
  const place = join(folder, name);
  if (existsSync(place)) {
    throw new FerryError("bad-argument", `${place} is there already. Remove it to make a new one.`);
  }
  const { publicKey, privateKey } = await makeKeys(hostBits);
  const cert = certificate(name, publicKey, hostYears);
  cert.setExtensions([
    { name: "basicConstraints", cA: false, critical: true },
    { name: "keyUsage", digitalSignature: true, critical: true },
    { name: "extKeyUsage", serverAuth: true, clientAuth: true },
    { name: "subjectAltName", altNames: [{ type: 2, value: name }] },
    { name: "subjectKeyIdentifier" },
  ]);
  cert.sign(key, md.sha256.create());
  mkdirSync(place, { mode: 0o700 });
  writeSecret(join(place, pkiFiles.key), pki.privateKeyToPem(privateKey));
  writePublic(join(place, pkiFiles.cert), pki.certificateToPem(cert));
  writePublic(join(place, pkiFiles.ca), pki.certificateToPem(authority));
  return place;
}
