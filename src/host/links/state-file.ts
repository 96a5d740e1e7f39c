import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { FerryError, messageOf } from "../../base/errors.ts";
import { controlBytesMax, type MessageOf, messages } from "../../migration/hosts/link-messages.ts";
import { parseJson } from "../../migration/hosts/shapes.ts";

/** What a file of a device's state begins with: one line that a person can read. */
const magic =
  "vfio-ferry device state. It holds a guest's secrets: keep it as the guest's memory. ";
const headerBytesMax = magic.length + controlBytesMax;

/** A file under its three names: being written, complete, and loaded by a host. */
export const partOf = (path: string): string => `${path}.part`;
export const takenOf = (path: string): string => `${path}.taken`;

export function headerOf({ say: _, ...hello }: MessageOf<"hello">): string {
  return `${magic}${JSON.stringify(hello)}\n`;
}

/** An open file, with what its header says and where its frames begin. */
export interface StateFile {
  readonly file: FileHandle;
  readonly hello: MessageOf<"hello">;
  readonly framesAt: number;
}

/** Opens a file of a device's state; a FerryError says why it is none. */
export async function openState(path: string): Promise<StateFile> {
  let file: FileHandle | null = null;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    if (!(await file.stat()).isFile()) throw new Error("it is no plain file");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headerBytesMax), 0);
    const end = buffer.subarray(0, bytesRead).indexOf("\n");
    const line = buffer.toString("utf8", 0, Math.max(0, end));
    const hello = messages.hello.body(parseJson(line.slice(magic.length)));
    if (!line.startsWith(magic) || hello === undefined) throw new Error("it has no such header");
    return { file, hello: { say: "hello", ...hello }, framesAt: end + 1 };
  } catch (thrown) {
    await file?.close();
    throw new FerryError("no-state", `${path} holds no device's state: ${messageOf(thrown)}.`);
  }
}

/** Whether there is a file of this migration's under a name. */
export async function holds(path: string, token: string): Promise<boolean> {
  try {
    const { file, hello } = await openState(path);
    await file.close();
    return hello.token === token;
  } catch {
    return false;
  }
}
