import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/vm/**", "node_modules/**"],
    testTimeout: 30_000,
    hookTimeout: 15_000,
    pool: "forks",
    // Much of it waits for other processes.
    maxWorkers: "100%",
  },
});
