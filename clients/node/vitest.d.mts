import type { expect as vitestExpect, test as vitestTest } from "vitest";
import type { Explore, Harness, HarnessOptions, JobMatchers } from "./index.js";

export { effect, step } from "./index.js";

/** Open a harness for each test of this file, judge it after the test, and close it. */
export declare function jobHarness(options?: HarnessOptions): Harness;
export declare const test: typeof vitestTest & { explore: Explore };
export declare const expect: typeof vitestExpect;

declare module "vitest" {
  interface Assertion<T = any> extends JobMatchers<T> {}
  interface AsymmetricMatchersContaining extends JobMatchers {}
}
