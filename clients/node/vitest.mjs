import { createRequire } from "node:module";
import path from "node:path";
import { afterAll, afterEach, beforeEach, expect as vitestExpect, test as vitestTest } from "vitest";
import runner from "./lib/runner.cjs";

const require = createRequire(`${process.cwd()}/`);
const ALONE = ["--reporter=dot", "--coverage.enabled=false", "--no-file-parallelism", "--testTimeout=0", "--passWithNoTests=false"];
const { frontDoor, typed } = runner;
export const { jobHarness, ownWorkers, pinned, test, it, expect, effect, step } = frontDoor({
  test: vitestTest,
  expect: vitestExpect,
  beforeEach,
  afterEach,
  afterAll,
  alone: (file, pattern) => [process.execPath, path.join(path.dirname(require.resolve("vitest/package.json")), "vitest.mjs"), "run", file, "-t", pattern, ...ALONE],
  command: (file, pattern) => typed("npx", "vitest", "run", file, "-t", pattern),
  door: "job-harness/vitest",
  pattern: () => globalThis.__vitest_worker__?.config?.testNamePattern,
});
