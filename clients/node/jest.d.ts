import type { expect as jestExpect, test as jestTest } from "@jest/globals";
import type { Explore, Harness, HarnessOptions, JobMatchers, OwnWorkersHarness, OwnWorkersOptions } from "./index.js";

export { effect, step } from "./index.js";

/** Open a harness for each test of this file, judge it after the test, and close it. */
export declare function jobHarness(options?: HarnessOptions): Harness;
/** Open an empty database for each test of this file, for workers that the test starts itself; judge and close it. */
export declare function ownWorkers(options: OwnWorkersOptions): OwnWorkersHarness;
/** Play a finding that was kept by JOB_HARNESS_PIN: it fails as long as it still happens, or no longer fits its test. */
export declare function pinned(anomaly: string, finding: { file: string; test: string; token: string }): void;
export declare const test: typeof jestTest & { explore: Explore };
export declare const it: typeof test;
export declare const expect: typeof jestExpect;

declare module "expect" {
  interface Matchers<R extends void | Promise<void>, T = unknown> extends JobMatchers<R> {}
}
