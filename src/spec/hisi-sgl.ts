/**
 * The scatter-gather list that the SEC2 and ZIP accelerators read from guest memory: Linux 6.12
 * `drivers/crypto/hisilicon/sgl.c`, `struct hisi_acc_hw_sgl`. Little-endian.
 */
import { array, struct, u16, u32, u53, u64 } from "../base/struct.ts";

/**
 * Before the entries. `entrySumInSgl` counts the valid ones; the other two counts are capacities of
 * the driver's pool. `nextVirtual` is a kernel pointer and nothing to the device.
 */
export const SglHeader = struct("hisi_acc_hw_sgl", 64, {
  nextDma: u53,
  entrySumInChain: u16,
  entrySumInSgl: u16,
  entryLengthInSgl: u16,
  padding: u16,
  reserved: array(u64, 5),
  nextVirtual: u64,
});

/** One piece of memory. `pageControl` is a kernel pointer: it is neither used nor shown. */
export const SglEntry = struct("acc_hw_sge", 32, {
  buffer: u53,
  pageControl: u64,
  length: u32,
  padding: array(u32, 3),
});

/** Entries of the longest list (`HISI_ACC_SGL_SGE_NR_MAX`). */
export const sglEntriesMax = 255;
