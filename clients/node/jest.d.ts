import type { expect as jestExpect, test as jestTest } from "@jest/globals";
import type { Explore, Harness, HarnessOptions, JobMatchers } from "./index.js";

export { effect, step } from "./index.js";

/** Open a harness for each test of this file, judge it after the test, and close it. */
export declare function jobHarness(options?: HarnessOptions): Harness;
export declare const test: typeof jestTest & { explore: Explore };
export declare const expect: typeof jestExpect;

declare module "expect" {
  interface Matchers<R extends void | Promise<void>, T = unknown> extends JobMatchers<R> {}
}
