const bytesPerLine = 16;

const isPrintable = (byte: number): boolean => byte >= 0x20 && byte < 0x7f;

/** Bytes as `hexdump -C` shows them, their offsets counted from `from`. */
export function hexDump(bytes: Uint8Array, from: number): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += bytesPerLine) {
    const part = Array.from(bytes.subarray(at, at + bytesPerLine));
    const words = part.map((byte) => byte.toString(16).padStart(2, "0"));
    const halves = [words.slice(0, 8).join(" "), words.slice(8).join(" ")].join("  ");
    const text = part.map((byte) => (isPrintable(byte) ? String.fromCharCode(byte) : "."));
    const offset = (from + at).toString(16).padStart(8, "0");
    lines.push(`${offset}  ${halves.padEnd(48)}  |${text.join("")}|`);
  }
  return lines.join("\n");
}
