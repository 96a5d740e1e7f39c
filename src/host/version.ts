import { readFileSync } from "node:fs";

/** package.json lies two folders up, of the sources as of what is built from them. */
function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** The version of this package. */
export const ownVersion = packageVersion();
