import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import { compileAhead } from "../../src/host/compiling.ts";

vi.mock("../../src/host/compiling.ts", () => ({ compileAhead: vi.fn() }));

const module = fileURLToPath(new URL("../../dist/host/compiling.js", import.meta.url));

/**
 * Bytes of bytecode that come with a function which nobody calls, and those left when the heap has
 * been collected some twenty times: not by order, which leaves the age of what is unused alone.
 */
const measure = `
  import { getHeapCodeStatistics } from "node:v8";
  import { Script } from "node:vm";
  import { compileAhead } from ${JSON.stringify(module)};
  if (process.argv[1] === "ahead") compileAhead();
  const mib = 1 << 20;
  const pass = () => {
    for (let i = 0; i < 40; i++) Array.from({ length: 60 }, () => new ArrayBuffer(mib));
  };
  const bytecode = () => getHeapCodeStatistics().bytecode_and_metadata_size;
  const text = "function uncalled(a) {" + "a = a * 3 + 1; a ^= a >> 2;".repeat(2000) + "} uncalled";
  pass();
  const before = bytecode();
  globalThis.kept = new Script(text).runInThisContext();
  const loaded = bytecode() - before;
  pass();
  console.log(JSON.stringify({ loaded, later: bytecode() - before }));
`;

function bytecode(how: string): { readonly loaded: number; readonly later: number } {
  const args = ["--input-type=module", "--eval", measure, how];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

describe("a process in which a guest may wait", () => {
  const bodyBytes = 40_000;

  it("has compiled a function before its first call, and keeps it", () => {
    const { loaded, later } = bytecode("ahead");
    expect(loaded).toBeGreaterThan(bodyBytes);
    expect(later).toBeGreaterThan(bodyBytes);
  });

  it("would not by itself", () => {
    const { loaded, later } = bytecode("lazily");
    expect(loaded).toBeLessThan(bodyBytes);
    expect(later).toBeLessThan(bodyBytes);
  });
});

describe("a verb in which a guest may wait", () => {
  beforeEach(() => vi.clearAllMocks());

  it.each(["serve", "relay", "vm"])("compiles ahead: %s", async (verb) => {
    await createProgram([verb]);
    expect(compileAhead).toHaveBeenCalledOnce();
  });

  it.each(["probe", "migrate", "swap"])(
    "is another one than %s, which starts sooner",
    async (verb) => {
      await createProgram([verb]);
      expect(compileAhead).not.toHaveBeenCalled();
    },
  );
});
