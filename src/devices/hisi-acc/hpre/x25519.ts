import { createPrivateKey, createPublicKey, diffieHellman } from "node:crypto";
import { HpreError } from "../../../spec/hisi-hpre.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64url");

/**
 * X25519 [RFC 7748, section 5] of little-endian numbers; a scalar that is not clamped is clamped
 * here. `HpreError.point` for a point of small order, whose product would tell nothing of the
 * scalar.
 */
export function x25519(scalar: Uint8Array, u: Uint8Array): Uint8Array | HpreError {
  const curve = { kty: "OKP", crv: "X25519" };
  try {
    const publicKey = createPublicKey({ key: { ...curve, x: text(u) }, format: "jwk" });
    // The public half of the private key plays no part.
    const secret = { ...curve, d: text(scalar), x: text(u) };
    const privateKey = createPrivateKey({ key: secret, format: "jwk" });
    return diffieHellman({ privateKey, publicKey });
  } catch {
    return HpreError.point;
  }
}
