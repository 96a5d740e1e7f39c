import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: fileURLToPath(new URL("../..", import.meta.url)),
    include: ["test/vm/**/*.vm.test.ts"],
    globalSetup: "test/vm/global-setup.ts",
    // A machine takes two processors: two at a time would only wait for each other.
    fileParallelism: false,
    pool: "forks",
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
