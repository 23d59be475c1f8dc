import { afterAll, afterEach, beforeEach, expect as vitestExpect, test as vitestTest } from "vitest";
import runner from "./lib/runner.cjs";

const { frontDoor, quoted } = runner;
export const { jobHarness, test, expect, effect, step } = frontDoor({
  test: vitestTest,
  expect: vitestExpect,
  beforeEach,
  afterEach,
  afterAll,
  command: (file, name) => `npx vitest run ${file} -t ${quoted(name)}`,
});
