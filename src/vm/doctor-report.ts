import type { Finding, Role } from "./doctor.ts";

const ways: Readonly<Record<NonNullable<Role>, string>> = {
  source: "It can leave with ferry vm migrate.",
  target: "It can take a VM in with ferry vm migrate.",
};

/** What was found, as a table for people. */
export function renderFindings(findings: readonly Finding[], role: Role): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  const lines = findings.flatMap(({ what, ok, says, todo }) => {
    const line = `${what.padEnd(width)}  ${ok ? "OK     " : "PROBLEM"}  ${says}`;
    return todo === "" ? [line] : [line, `${" ".repeat(width + 11)}${todo}`];
  });
  const problems = findings.filter(({ ok }) => !ok).length;
  const last = problems === 1 ? "One problem." : `${problems} problems.`;
  const way = role === null ? "" : ways[role];
  return [...lines, problems > 0 ? last : way].join("\n");
}
