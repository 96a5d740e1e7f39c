/** What a state of the bulk device must look like, whoever it comes from. */
import { errno } from "../../base/errno.ts";
import type { Infer } from "../../base/struct.ts";
import { addressEnd } from "../../memory/dma-map.ts";
import { Bulk, BulkCommand, BulkFunctionState, BulkRequest } from "./registers.ts";

const windowBytes = 65_536;
const { fields, offset } = BulkFunctionState;

/** Can it be a request of a device with so much memory? */
export function checkRequest(request: Infer<typeof BulkRequest>, boardBytes: number): boolean {
  const { command, boardOffset, length, guestAddress, done } = request;
  return (
    command <= BulkCommand.toGuest &&
    length > 0 &&
    length <= boardBytes &&
    boardOffset <= boardBytes - length &&
    done < length &&
    guestAddress <= addressEnd - length
  );
}

/** Can it be a `BulkFunctionState` of a device with so much memory? */
export function checkBulkFunction(state: Uint8Array, boardBytes: number): boolean {
  const view = new DataView(state.buffer, state.byteOffset, state.byteLength);
  const at = offset.registers;
  const register = (name: "STATUS" | "CAUSE" | "WINDOW"): number =>
    view.getUint32(at + Bulk.at[name], true);
  const request = BulkRequest.get(view, offset.request);
  const runs = register("STATUS") === errno.EINPROGRESS;
  const idle = state
    .subarray(offset.request, offset.request + fields.request.size)
    .every((byte) => byte === 0);
  return (
    view.getUint32(at + Bulk.at.MAGIC, true) === Bulk.registers.MAGIC.reset &&
    (register("CAUSE") & ~Bulk.bits.CAUSE.all) === 0 &&
    (register("WINDOW") + 1) * windowBytes <= boardBytes &&
    (runs ? request.command > 0 && checkRequest(request, boardBytes) : idle) &&
    view.getUint32(offset.pending, true) <= 1 &&
    view.getUint32(offset.reserved, true) === 0
  );
}
