/** Programs of an unpacked Debian tree: how to run them, and the libraries that they need. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A command and its leading arguments. */
export type Command = readonly [string, ...string[]];

/** The folders of the machine on which the tests run; trees of programs to run are always of it. */
const dynamicLinker = "usr/lib64/ld-linux-x86-64.so.2";
const libraryFolder = "usr/lib/x86_64-linux-gnu";

/** How to run a program of a tree without changing root: needs no privilege. */
export function commandIn(tree: string, program: string): Command {
  const libraries = join(tree, libraryFolder);
  return [join(tree, dynamicLinker), "--library-path", libraries, join(tree, program)];
}

const programHeader = { load: 1, dynamic: 2, interpreter: 3 } as const;
const dynamicTag = { end: 0, needed: 1, stringTable: 5 } as const;

/** The names of the libraries that a 64-bit little-endian ELF file asks for (ELF-64, DT_NEEDED). */
export function neededLibraries(path: string): string[] {
  const file = readFileSync(path);
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) return [];
  const headers = programHeaders(file);
  const dynamic = headers.find((header) => header.type === programHeader.dynamic);
  if (dynamic === undefined) return [];
  const names: number[] = [];
  let stringTableAddress = 0;
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    const tag = Number(file.readBigUInt64LE(at));
    const value = Number(file.readBigUInt64LE(at + 8));
    if (tag === dynamicTag.end) break;
    if (tag === dynamicTag.needed) names.push(value);
    if (tag === dynamicTag.stringTable) stringTableAddress = value;
  }
  const holder = headers.find(
    ({ type, address, size }) =>
      type === programHeader.load &&
      address <= stringTableAddress &&
      stringTableAddress < address + size,
  );
  if (holder === undefined) return [];
  const strings = holder.offset + stringTableAddress - holder.address;
  return names.map((name) =>
    file.toString("latin1", strings + name, file.indexOf(0, strings + name)),
  );
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

function programHeaders(file: Buffer): ProgramHeader[] {
  const tableOffset = Number(file.readBigUInt64LE(32));
  const entryBytes = file.readUInt16LE(54);
  const count = file.readUInt16LE(56);
  return Array.from({ length: count }, (_, index) => {
    const at = tableOffset + index * entryBytes;
    return {
      type: file.readUInt32LE(at),
      offset: Number(file.readBigUInt64LE(at + 8)),
      address: Number(file.readBigUInt64LE(at + 16)),
      size: Number(file.readBigUInt64LE(at + 32)),
    };
  });
}

/** Paths in `tree` of the libraries that a program needs, and of those that they need. */
export function libraryClosure(tree: string, folder: string, program: string): string[] {
  const found = new Set<string>();
  const open = [program];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    for (const name of neededLibraries(join(tree, path))) {
      const library = join(folder, name);
      if (found.has(library) || !existsSync(join(tree, library))) continue;
      found.add(library);
      open.push(library);
    }
  }
  return [...found];
}
