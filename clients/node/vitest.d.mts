import type { expect as vitestExpect, TestAPI, TestContext } from "vitest";
import type { Explore, ExploreOptions, Harness, HarnessOptions, JobMatchers, OwnWorkersHarness, OwnWorkersOptions } from "./index.js";

export { effect, step } from "./index.js";

/** Open a harness for each test of this file, judge it after the test, and close it. */
export declare function jobHarness(options?: HarnessOptions): Harness;
/** Open an empty database for each test of this file, for workers that the test starts itself; judge and close it. */
export declare function ownWorkers(options: OwnWorkersOptions): OwnWorkersHarness;
/** Play a finding that was kept by JOB_HARNESS_PIN: it fails as long as it still happens, or no longer fits its test. */
export declare function pinned(anomaly: string, finding: { file: string; test: string; token: string }): void;
export declare const test: ExploredTest;
export declare const it: ExploredTest;
export declare const expect: ExpectJobs & typeof vitestExpect;

/** The runner's own `expect`, with matchers for jobs. */
interface ExpectJobs {
  <Value>(actual: Value, message?: string): AboutJobs<ReturnType<typeof vitestExpect<Value>>>;
}

type AboutJobs<Assertion> = Omit<Assertion, "not" | "resolves" | "rejects"> &
  JobMatchers & {
    not: Assertion & JobMatchers;
    resolves: (Assertion extends { resolves: infer Settled } ? Settled : never) & JobMatchers<Promise<void>>;
    rejects: Assertion extends { rejects: infer Settled } ? Settled : never;
  };

/** The runner's own `test`, with `explore`; what it is extended to has that too. */
type ExploredTest<Context = object> = Explored<Context> & TestAPI<Context>;

interface Explored<Context> {
  explore: ExploreInVitest<Context>;
  extend<Made extends Record<string, any> = object>(fixtures: { [Name in keyof Made]: Fixture<Made[Name], Omit<Made, Name> & Context & TestContext> }): ExploredTest<Omit<Context, keyof Made> & Made>;
  extend<Name extends string, Made>(name: Name, made: ((context: Context & TestContext, more: Cleaning) => Made | Promise<Made>) | Made): ExploredTest<Context & { [Each in Name]: Made }>;
  extend<Name extends string, Made>(name: Name, options: object, made: ((context: any, more: Cleaning) => Made | Promise<Made>) | Made): ExploredTest<Context & { [Each in Name]: Made }>;
}

type Fixture<Made, Context> = FixtureOf<Made, Context> | [FixtureOf<Made, Context>, { auto?: boolean; scope?: "test" | "file" | "worker"; injected?: boolean }?];
type FixtureOf<Made, Context> = ((context: Context, use: (made: Made) => Promise<void>) => Promise<void>) | Made;
interface Cleaning {
  onCleanup(clean: () => unknown): void;
}

interface ExploreInVitest<Context> extends Explore {
  /** Explore a test whose fixtures, those of `test.extend`, the body takes from its second parameter. */
  (name: string, body: (harness: Harness, context: Context & TestContext) => unknown): void;
  (name: string, options: ExploreOptions, body: (harness: Harness, context: Context & TestContext) => unknown): void;
}
