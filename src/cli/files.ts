/** Files that an operator names. */
import { appendFileSync, writeFileSync } from "node:fs";
import { FerryError, messageOf } from "../base/errors.ts";
import type { Report } from "../migration/hosts/report.ts";
import { renderPage } from "../migration/hosts/report-page.ts";

/** Uses a file; what the file system says no to is the operator's to mend. `what` names it. */
export function withFile<T>(what: string, use: () => T, code = "bad-argument"): T {
  try {
    return use();
  } catch (thrown) {
    throw new FerryError(code, `${what}: ${messageOf(thrown)}.`);
  }
}

/** Finds out, before anything is moved, whether a page can be written; what is there stays. */
export function expectPage(path: string | undefined): void {
  if (path !== undefined) withFile(`--report ${path}`, () => appendFileSync(path, ""));
}

/** Writes the page of a migration. How that went has been told: it is not lost with its page. */
export function writePage(path: string | undefined, report: Report): void {
  if (path === undefined) return;
  withFile(`--report ${path}`, () => writeFileSync(path, renderPage(report)), "no-page");
}
