import { FerryError } from "../base/errors.ts";

/**
 * Whether a device's memory is offered for mapping, as an option of the device says it. A mapping
 * cannot be taken back over vfio-user, and what is stored through one is seen by nobody, so `never`
 * is for clients that are not trusted to leave a device alone that stands still. With `trusted` a
 * store at the wrong time spoils the client's own device at most: what is saved does not change.
 */
export function mmapPolicy(text: string): boolean {
  if (text !== "never" && text !== "trusted") {
    throw new FerryError("bad-option", `mmap=${text} is neither never nor trusted.`);
  }
  return text === "trusted";
}
