import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // A crash in native code must end one worker, not the run.
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Tests import the built files (`#stellium/...`), so that threads started from them find theirs.
    server: { deps: { external: [/\/dist\//] } },
  },
});
