import { IrqSetFlags } from "../spec/vfio.ts";
import { closeFd } from "../sys/descriptors.ts";
import type { IrqRequest } from "./vfio-device.ts";

const { dataEventfd, dataNone } = IrqSetFlags.mask;

/** Does the request name this vector? NONE names the whole range, BOOL where a byte is not 0. */
export function names(request: IrqRequest, vector: number): boolean {
  const at = vector - request.start;
  if (at < 0 || at >= request.count || request.data === dataEventfd) return false;
  return request.data === dataNone || request.bytes[request.boolsAt + at] !== 0;
}

/** Closes what a refused request brought. */
export function closeAll(request: IrqRequest): void {
  for (const fd of request.fds) closeFd(fd);
}
