import { HpreAlgorithm, HpreQueue, hpreNumberBytes } from "../../../spec/hisi-hpre.ts";
import { powerCost } from "./modular-power.ts";
import {
  eccOperation,
  type HpreWork,
  numberAt,
  powerOperation,
  rsaCrtOperation,
  x25519Operation,
} from "./operations.ts";

/** What the engine has to know of an algorithm. */
export interface HpreTask {
  readonly operation: string;
  /** The queues that may ask for it, by the SQ context's algorithm type. */
  readonly queue: number;
  readonly sizes: readonly number[];
  /** Length of the key buffer, of the input and of the output, in numbers. */
  readonly keyNumbers: number;
  readonly inNumbers: number;
  readonly outNumbers: number;
  /** Stands for the input where a request has none. */
  readonly operand?: number;
  /** Estimated nanoseconds. */
  cost(work: HpreWork): number;
}

/** Nanoseconds of a product on a curve, by the bytes of its numbers; P-192 is slower than P-256. */
const eccCost: Readonly<Record<number, number>> = { 32: 1_800_000, 48: 5_500_000 };
const x25519Cost = 120_000;

const generalPower = {
  operation: powerOperation,
  queue: HpreQueue.rsaAndDh,
  keyNumbers: 2,
  inNumbers: 1,
  outNumbers: 1,
  cost: ({ key, size }: HpreWork) => powerCost(numberAt(key, size, 0), numberAt(key, size, 1)),
};

/** By `HpreAlgorithm`. */
export const hpreTasks: Readonly<Record<number, HpreTask>> = {
  [HpreAlgorithm.rsa]: { ...generalPower, sizes: hpreNumberBytes.rsa },
  [HpreAlgorithm.rsaCrt]: {
    ...generalPower,
    operation: rsaCrtOperation,
    sizes: hpreNumberBytes.rsa,
    keyNumbers: 2.5,
    cost({ key, size }) {
      const number = (index: number) => numberAt(key, size / 2, index);
      return powerCost(number(0), number(2)) + powerCost(number(1), number(3));
    },
  },
  [HpreAlgorithm.dh]: { ...generalPower, sizes: hpreNumberBytes.dh },
  [HpreAlgorithm.dhG2]: { ...generalPower, sizes: hpreNumberBytes.dh, inNumbers: 0, operand: 2 },
  [HpreAlgorithm.eccMultiply]: {
    operation: eccOperation,
    queue: HpreQueue.ecc,
    sizes: hpreNumberBytes.ecc,
    keyNumbers: 4,
    inNumbers: 2,
    outNumbers: 2,
    cost: ({ size }) => eccCost[size] as number,
  },
  [HpreAlgorithm.x25519]: {
    operation: x25519Operation,
    queue: HpreQueue.ecc,
    sizes: hpreNumberBytes.x25519,
    keyNumbers: 3,
    inNumbers: 1,
    outNumbers: 1,
    cost: () => x25519Cost,
  },
};
