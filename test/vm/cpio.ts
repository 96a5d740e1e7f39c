/** Writes the "newc" cpio archive that the Linux kernel unpacks as its first root file system. */

/** File types of st_mode, as the kernel's initramfs reads them. */
const fileType = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 } as const;

export type CpioEntry =
  | { readonly path: string; readonly folder: true }
  | { readonly path: string; readonly content: Uint8Array; readonly permissions: number }
  | { readonly path: string; readonly linkTo: string }
  | { readonly path: string; readonly characterDevice: readonly [major: number, minor: number] };

/** The whole archive, with folders before what they hold: the order of `entries` is kept. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const trailer: CpioEntry = { path: "TRAILER!!!", content: new Uint8Array(), permissions: 0 };
  const parts = entries.map((entry, index) => encodeEntry(entry, index + 1));
  return Buffer.concat([...parts, encodeEntry(trailer, 0)]);
}

function encodeEntry(entry: CpioEntry, inode: number): Buffer {
  const content = contentOf(entry);
  const [major, minor] = "characterDevice" in entry ? entry.characterDevice : [0, 0];
  const name = Buffer.from(`${entry.path}\0`);
  const fields = {
    inode,
    mode: modeOf(entry),
    user: 0,
    group: 0,
    links: 1,
    timeSeconds: 0,
    sizeBytes: content.length,
    ...{ containerMajor: 0, containerMinor: 0, deviceMajor: major, deviceMinor: minor },
    nameBytes: name.length,
    checksum: 0,
  };
  const words = Object.values(fields).map((field) => field.toString(16).padStart(8, "0"));
  const header = Buffer.concat([Buffer.from(`070701${words.join("")}`), name]);
  return Buffer.concat([padded(header), padded(content)]);
}

function contentOf(entry: CpioEntry): Buffer {
  if ("content" in entry) return Buffer.from(entry.content);
  return Buffer.from("linkTo" in entry ? entry.linkTo : "");
}

function modeOf(entry: CpioEntry): number {
  if ("folder" in entry) return fileType.folder | 0o755;
  if ("linkTo" in entry) return fileType.link | 0o777;
  if ("characterDevice" in entry) return fileType.device | 0o600;
  return fileType.file | entry.permissions;
}

/** Header with name, and content, both end on a multiple of four bytes. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
