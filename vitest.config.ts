import { defineConfig } from "vitest/config";

/** Tests that measure time or memory, or have a browser of their own: they have the machine to themselves. */
const timed = [
  "test/web/**/*.test.ts",
  "test/cli/measure.test.ts",
  "test/engine/stepProfile.test.ts",
  "test/native/sockets.test.ts",
  "test/weights/gguf.memory.test.ts",
];

export default defineConfig({
  test: {
    // A crash in native code must end one worker, not the run.
    pool: "forks",
    reporters: ["default", ...(process.env["GITHUB_ACTIONS"] ? ["github-actions"] : []), "./test/skipReporter.ts"],
    globalSetup: "test/temporaryFolder.ts",
    // They only end what hangs: a small board under load takes ten times as long as a quiet machine.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Tests import the built files (`#stellium/...`), so that threads started from them find theirs.
    server: { deps: { external: [/\/dist\//] } },
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: ["test/**/*.test.ts"],
          exclude: timed,
          maxWorkers: "100%",
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "alone", include: timed, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
});
