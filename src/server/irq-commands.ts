/** DEVICE_SET_IRQS: everything about the request is checked here; the device only does it. */
import { errno } from "../base/errno.ts";
import type { Irq } from "../device/vfio-device.ts";
import { IrqSet, IrqSetFlags, irqSetAction, irqSetData, PciIrq } from "../spec/vfio.ts";
import type { Request } from "./request.ts";

const { mask } = IrqSetFlags;

const isOneBit = (word: number): boolean => word !== 0 && (word & (word - 1)) === 0;

/** ERR and REQ tell of trouble; they cannot be masked. */
const triggerOnly = (index: number): boolean => index === PciIrq.err || index === PciIrq.req;

/** DEVICE_SET_IRQS: `-EINVAL` before anything is changed. */
export function deviceSetIrqs(request: Request): number {
  const { argsz, flags, index, start, count } = IrqSet.get(request.view, request.at);
  const irq = request.device.irqs[index];
  const data = flags & irqSetData;
  const action = flags & irqSetAction;
  if (irq === undefined || argsz < IrqSet.size || (flags & ~IrqSetFlags.all) !== 0) {
    return -errno.EINVAL;
  }
  if (!isOneBit(data) || !isOneBit(action)) return -errno.EINVAL;
  if (triggerOnly(index) && action !== mask.actionTrigger) return -errno.EINVAL;
  const refused = checkRange(irq, start, count, data, action) || checkData(request, data, count);
  if (refused !== 0) return refused;
  const { bytes, fds, irqs, device } = request;
  request.fds = [];
  const boolsAt = request.at + IrqSet.size;
  const set = { index, start, count, data, action, bytes, boolsAt, fds };
  if (irqs.agreed && data === mask.dataEventfd && action === mask.actionTrigger) {
    return irqs.wire(device, set, request.length - IrqSet.size);
  }
  const result = device.setIrqs(set);
  if (result >= 0 && count === 0) irqs.forget(index);
  return result;
}

/** A count of 0 means one thing only: TRIGGER|NONE from 0 switches the index off. */
function checkRange(irq: Irq, start: number, count: number, data: number, action: number): number {
  const disables = data === mask.dataNone && action === mask.actionTrigger && start === 0;
  if (count === 0) return disables ? 0 : -errno.EINVAL;
  return start + count <= irq.count ? 0 : -errno.EINVAL;
}

function checkData({ length, fds, irqs }: Request, data: number, count: number): number {
  const trailing = length - IrqSet.size;
  switch (data) {
    case mask.dataEventfd:
      if (irqs.agreed) {
        return fds.length === 0 && (trailing === 0 || trailing === count) ? 0 : -errno.EINVAL;
      }
      return fds.length === 0 || fds.length === count ? 0 : -errno.EINVAL;
    case mask.dataBool:
      return trailing === count && fds.length === 0 ? 0 : -errno.EINVAL;
    default:
      return fds.length === 0 ? 0 : -errno.EINVAL;
  }
}
