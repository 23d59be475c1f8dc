import { afterAll, afterEach, beforeEach, expect as vitestExpect, test as vitestTest } from "vitest";
import runner from "./lib/runner.cjs";

const quoted = (name) => JSON.stringify(name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
export const { jobHarness, test, expect, effect, step } = runner.frontDoor({
  test: vitestTest,
  expect: vitestExpect,
  beforeEach,
  afterEach,
  afterAll,
  command: (file, name) => `npx vitest run ${file} -t ${quoted(name)}`,
});
