/** Multiplication on the NIST curves, with both coordinates of the product. */
import { createECDH } from "node:crypto";
import { HpreError, type PrimeCurve, primeCurves } from "../../../spec/hisi-hpre.ts";
import { inverse, modulo, toBytes, toNumber } from "./numbers.ts";

/** A point that is not the point at infinity. */
export interface Point {
  readonly x: bigint;
  readonly y: bigint;
}

/** The curve with these parameters, or null. */
export function findCurve(p: bigint, a: bigint, b: bigint): PrimeCurve | null {
  return primeCurves.find((curve) => curve.p === p && curve.a === a && curve.b === b) ?? null;
}

/** x^3 + a x + b modulo p. */
const rightSide = ({ p, a, b }: PrimeCurve, x: bigint): bigint => (x * x * x + a * x + b) % p;

function isOnCurve(curve: PrimeCurve, { x, y }: Point): boolean {
  return x < curve.p && y < curve.p && (y * y) % curve.p === rightSide(curve, x);
}

/** The x of `scalar` times the point, which is all that ECDH gives; the scalar is 1 to n - 1. */
function productX({ name, bytes }: PrimeCurve, scalar: bigint, { x, y }: Point): bigint {
  const agreement = createECDH(name);
  agreement.setPrivateKey(toBytes(scalar, bytes));
  const uncompressed = Uint8Array.of(4);
  const point = Buffer.concat([uncompressed, toBytes(x, bytes), toBytes(y, bytes)]);
  return toNumber(agreement.computeSecret(point));
}

/**
 * The product of `scalar` and a point P, or an `HpreError`. With Q = k P, the x of Q + P = (k + 1)
 * P is ((Qy - Py) / (Qx - Px))^2 - Qx - Px. Here Qy^2 follows from Qx, so what is left is a linear
 * equation for Qy: its factor 2 Py is not 0, because a group of odd order has no point with y = 0.
 */
export function multiply(curve: PrimeCurve, scalar: bigint, point: Point): Point | HpreError {
  const { p, n } = curve;
  if (!isOnCurve(curve, point)) return HpreError.point;
  const k = scalar % n;
  if (k === 0n) return HpreError.scalar;
  if (k === 1n) return point;
  if (k === n - 1n) return { x: point.x, y: p - point.y };
  const x = productX(curve, k, point);
  const nextX = productX(curve, k + 1n, point);
  const squared = (nextX + x + point.x) * (x - point.x) ** 2n;
  const doubled = rightSide(curve, x) + point.y ** 2n - squared;
  return { x, y: modulo(doubled * inverse(2n * point.y, p), p) };
}
