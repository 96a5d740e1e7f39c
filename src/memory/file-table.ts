import { closeFd } from "../sys/descriptors.ts";
import { GuestFile } from "./guest-file.ts";
import type { FileIdentity } from "./open-file.ts";
import type { WindowPool } from "./window-pool.ts";

/**
 * The files in use, each once. A VMM sends a new descriptor of the same memory with every mapping;
 * keeping them all would use up the process's descriptors long before the mappings' limit.
 */
export class FileTable {
  readonly #pool: WindowPool;
  readonly #byInode = new Map<number, GuestFile[]>();

  constructor(pool: WindowPool) {
    this.#pool = pool;
  }

  /** Files that are open. */
  get count(): number {
    let count = 0;
    for (const files of this.#byInode.values()) count += files.length;
    return count;
  }

  /** The file that `identity` is of, if it is here already. */
  find(identity: FileIdentity): GuestFile | null {
    const files = this.#byInode.get(identity.inode);
    return files?.find((file) => file.identity.isSame(identity)) ?? null;
  }

  /** Takes `fd` over and returns its file with one more reference. */
  acquire(fd: number, identity: FileIdentity): GuestFile {
    const known = this.find(identity);
    if (known !== null) {
      closeFd(fd);
      known.size = Math.max(known.size, identity.size);
      known.references += 1;
      return known;
    }
    const file = new GuestFile(fd, identity, this.#pool);
    file.references = 1;
    const files = this.#byInode.get(identity.inode);
    if (files === undefined) this.#byInode.set(identity.inode, [file]);
    else files.push(file);
    return file;
  }

  /** Gives one reference back; the last one closes the file. */
  release(file: GuestFile): void {
    file.references -= 1;
    if (file.references > 0) return;
    const inode = file.identity.inode;
    const others = (this.#byInode.get(inode) ?? []).filter((other) => other !== file);
    if (others.length === 0) this.#byInode.delete(inode);
    else this.#byInode.set(inode, others);
    file.close();
  }
}
