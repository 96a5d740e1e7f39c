import type { Socket } from "node:net";

/** Where a socket's next bytes go, and what is told how many have come; false: read no more now. */
export interface Onread {
  buffer(): Uint8Array;
  callback(bytes: number): boolean;
}

/** What node keeps `onread` in. */
interface Slots {
  readonly place: symbol;
  readonly told: symbol;
  readonly next: symbol;
}

function slotsOf(socket: Socket): Slots | null {
  const slot = (name: string): symbol | undefined =>
    Object.getOwnPropertySymbols(socket).find(({ description }) => description === name);
  const [place, told, next] = [slot("kBuffer"), slot("kBufferCb"), slot("kBufferGen")];
  if (place === undefined || told === undefined || next === undefined) return null;
  return { place, told, next };
}

/**
 * Has a connected socket read bytes to where they belong, as node's option `onread` does for one
 * that connects by itself. Node has no such option for TLS sockets that are connected to, which are
 * the ones that a device's state comes to; it makes a buffer for each record of theirs instead,
 * which is a quarter to a half of what reading costs. So what the option would set is set. False,
 * and nothing has changed, with a node that keeps it elsewhere.
 */
export function readInto(socket: Socket, { buffer, callback }: Onread): boolean {
  const { _handle: handle } = socket as unknown as {
    readonly _handle?: { useUserBuffer?(bytes: Uint8Array): void };
  };
  const slots = slotsOf(socket);
  if (slots === null || handle?.useUserBuffer === undefined) return false;
  const first = buffer();
  Object.assign(socket, {
    [slots.place]: first,
    [slots.told]: callback,
    [slots.next]: buffer,
  });
  handle.useUserBuffer(first);
  return true;
}
