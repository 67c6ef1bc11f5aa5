import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";
import "./skip.ts";

/** Ends the output of a run: the skipped tests by reason, and a line with the numbers alone. */
export default class SkipReporter implements Reporter {
  #filtered = false;

  onInit({ config }: Vitest): void {
    this.#filtered = config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const count = (state: "passed" | "failed" | "skipped") => modules.flatMap((module) => testsOf(module, state));
    const [passed, failed, skipped] = [count("passed"), count("failed"), count("skipped")];
    const failures = failed.length + errors.length + modules.filter(failedOutsideTests).length;
    const lines = skipped.length === 0 ? [] : ["Skipped:", ...this.#reasons(skipped)];
    const totals = `${passed.length} passed, ${failures} failed, ${skipped.length} skipped`;
    process.stdout.write(`${[...lines, totals].join("\n")}\n`);
  }

  #reasons(skipped: readonly TestCase[]): string[] {
    const byReason = new Map<string, number>();
    for (const test of skipped) {
      const reason = reasonOf(test) ?? (this.#filtered ? "the name does not match" : "NO REASON GIVEN");
      const text = `${reason} (${test.module.relativeModuleId})`;
      byReason.set(text, (byReason.get(text) ?? 0) + 1);
    }
    return [...byReason].map(([text, count]) => `${String(count).padStart(6)}  ${text}`);
  }
}

function testsOf(module: TestModule, state: "passed" | "failed" | "skipped"): TestCase[] {
  return [...module.children.allTests(state)];
}

/** A module that cannot be collected, or a hook that fails, has no test to show for it. */
function failedOutsideTests(module: TestModule): boolean {
  const suites = [module, ...module.children.allSuites()];
  return suites.some((suite) => suite.errors().length > 0);
}

function reasonOf(test: TestCase): string | undefined {
  const result = test.result();
  const note = result.state === "skipped" ? result.note : undefined;
  return note ?? test.meta().skipReason;
}
