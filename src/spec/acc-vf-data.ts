/**
 * What Linux's `hisi_acc_vfio_pci` sends of a HiSilicon accelerator's VF: as the stream of VFIO's
 * migration one structure (`struct acc_vf_data`) and nothing around it. Little-endian.
 */
import { array, struct, u16, u32, u53 } from "../base/struct.ts";

/** Low and high half. V2 is what is sent today; V1 has both event ring addresses garbled. */
export const accMagic = {
  v2: [0xdecadede, 0xaaccfeed],
  v1: [0xfeedaacc, 0xcdcdcdcd],
} as const;
/** Of V2: a receiver takes this major version and any minor one. */
export const accVersion = { major: 1, minor: 0 } as const;
/** `vfQmState`: whether a driver runs the function. When none does, only the match data is sent. */
export const AccVfState = { ready: 0, notReady: 1 } as const;

/** What both sides must agree on: the first bytes of the structure, and all that PRE_COPY sends. */
const match = {
  magic: array(u32, 2),
  /** Queues of the function. */
  queueCount: u32,
  /** PCI device id of the VF. */
  deviceId: u32,
  /** `QUEUE_ISOLATION` of the PF. */
  isolation: u32,
  /** Number of the first queue among the PF's, at the source. */
  queueBase: u32,
  /** `AccVfState`. */
  vfQmState: u32,
  major: u16,
  minor: u16,
  reservedState: array(u32, 2),
} as const;

export const AccMatch = struct("acc_vf_data match data", 40, match);

export const AccVfData = struct("acc_vf_data", 176, {
  ...match,
  /** Registers, by their names in `Qm`. */
  aeqIntMask: u32,
  eqIntMask: u32,
  ifcIntSource: u32,
  ifcIntMask: u32,
  ifcIntSet: u32,
  pageSize: u32,
  eqc: array(u32, 7),
  aeqc: array(u32, 7),
  reservedRegisters: array(u32, 5),
  padding: u32,
  /** Guest addresses of the EQ and the AEQ, once more. */
  eqAddress: u53,
  aeqAddress: u53,
  /** Guest addresses of the tables of queue contexts, which lie in the guest's memory. */
  sqcTable: u53,
  cqcTable: u53,
});
