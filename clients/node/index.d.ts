/** What JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

/** A length of virtual time: text such as "15m", or seconds. Whole thousands, which look like milliseconds, are refused. */
export type Length = string | number;

export type Status = "PENDING" | "PROCESSING" | "COMPLETED" | "FAILED" | "CANCELLED";

/** What a processor may return; anything else than an object with a boolean `success` is the output of a success. */
export interface JobResult {
  success: boolean;
  output?: unknown;
  error?: string;
  /** False: it is not tried again. */
  retryable?: boolean;
}

/** What a processor is called with: a row of tool_job, and `name`, `data`, `attemptsMade` as pg-boss and BullMQ call them. */
export interface ToolJob<Input = any> {
  id: string;
  toolSlug: string;
  name: string;
  input: Input;
  data: Input;
  status: Status;
  priority: number;
  /** How often it was claimed, this time included. */
  attempts: number;
  attemptsMade: number;
  maxAttempts: number;
  output: unknown;
  error: string | null;
  startedAt: Date | null;
  completedAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
  /** As BullMQ has it; here it does nothing. */
  updateProgress(progress: unknown): Promise<void>;
  /** As BullMQ has it; here the line is not kept. */
  log(line: string): Promise<number>;
}

export type Processor<Input = any> = (job: ToolJob<Input>) => unknown;

/** One job, read as it is when it is read. To read `status`, `path`, `output` or `error` is to look at it: a FAILED job that no test looks at fails the test. */
export declare class Job {
  readonly id: string;
  readonly tool: string;
  readonly status: Status;
  readonly attempts: number;
  /** How often its processor was started. */
  readonly runs: number;
  readonly path: Status[];
  readonly output: any;
  readonly error: string | null;
  readonly effects: [name: string, data: any][];
}

/** A side effect that a processor declared. */
export interface SideEffect {
  name: string;
  at: Date;
  job: string;
  attempt: number;
  worker: string;
  data: any;
}

/** The settings of the queue; docs/scenarios.md says what each means. */
export interface Settings {
  /** 3 */
  maxAttempts?: number;
  /** "10m" */
  jobTimeout?: Length;
  /** "11m" */
  lease?: Length;
  /** "30m" */
  stuckTimeout?: Length;
  /** "1m" */
  retryDelay?: Length;
  /** true: each wait is twice as long as the one before. */
  retryBackoff?: boolean;
  /** "1h" */
  retryDelayMax?: Length;
  /** "2s" */
  pollInterval?: Length;
  /** 1 */
  batchSize?: number;
  /** 0: no limit. */
  concurrency?: number;
  /** 0: no limit. */
  toolConcurrency?: number;
  /** Of a tool, within rateWindow; 0: no limit. */
  rateLimit?: number;
  /** "1m" */
  rateWindow?: Length;
  /** 0: no heartbeats. */
  heartbeatInterval?: Length;
  /** "1m" */
  cronPeriod?: Length;
  /** "1m" */
  expireInterval?: Length;
  /** "30s" */
  tickInterval?: Length;
  /** "7d" */
  retention?: Length;
  /** "5s" */
  maxSkew?: Length;
  /** true */
  workersEnabled?: boolean;
}

export interface HarnessOptions {
  /** `memory` (the default), or `pgboss@VERSION`: pg-boss's own work() on PostgreSQL. */
  engine?: string;
  /** Settings of the queue, such as `{ maxAttempts: 5, jobTimeout: "2m" }`. */
  settings?: Settings;
  /** Jitters retry delays. */
  seed?: number;
  /** Side effects that may happen once for each job, or once for each value of the data named in `per`. */
  atMostOnce?: OneOrMore<string | { name: string; per?: string[] }>;
  /** Those that besides have to happen for each job that completes, or for each of one tool. */
  exactlyOnce?: OneOrMore<string | { name: string; per?: string[]; tool?: string }>;
}

type OneOrMore<T> = T | T[];
type Named = Job | string;

export interface Wanted {
  /** Keys that are left out are not looked at. */
  input?: unknown;
  priority?: number;
  uniqueKey?: string;
  maxAttempts?: number;
  startAfter?: Length | Date;
  /** How far off `startAfter` may be (1 s). */
  within?: Length;
  status?: Status;
}

export interface Harness {
  /** Let a function serve a tool. */
  register<Input = any>(slug: string, processor: Processor<Input>): void;
  /**
   * One that is written for BullMQ's `Job`. It is called with what `ToolJob` says, and nothing else. If its second parameter is called
   * `token`, it gets a token and a signal that never aborts.
   */
  register<Given extends { id?: string | undefined; data: any }>(
    slug: string,
    processor: (job: Given, token: string, signal: any) => unknown,
  ): void;
  /** An object that has `process`, such as NestJS's `WorkerHost`: the method is called as BullMQ calls it. */
  register(slug: string, processor: { process(job: any, token?: any, signal?: any): unknown }): void;
  /** Accept a job; also from inside a processor. A held unique key returns the job that holds it. */
  enqueue(
    slug: string,
    input?: unknown,
    options?: { priority?: number; startAfter?: Length | Date; maxAttempts?: number; uniqueKey?: string },
  ): Promise<Job>;
  cancel(job: Named): Promise<boolean>;
  retry(job: Named): Promise<boolean>;
  /**
   * Let the worker die: now, or the next time it comes to a place. `at` is "before starting", "while running",
   * "before complete" or another verb, "after complete", or the name of a step or an effect.
   */
  crashWorker(where?: { at?: string; job?: Named }): Promise<void>;
  /** Let the next delivery of a job arrive twice. */
  deliverTwice(job: Named): Promise<void>;
  /** Run a processor once, without the queue; rejects with what it throws. */
  performJob(slug: string, input?: unknown): Promise<{ success: boolean; output: any; error: string | null }>;
  /** Let the worker take one due job; null where none is due. */
  workOne(): Promise<Job | null>;
  /** Work until no job is due; returns counts by outcome, those of 0 left out. */
  drain(options?: {
    withScheduled?: boolean;
    withRecursion?: boolean;
    limit?: number;
  }): Promise<{ completed?: number; retried?: number; failed?: number; cancelled?: number }>;
  /** Let time pass until every job has ended. */
  runUntilIdle(): Promise<void>;
  /** Let time pass and everything happen that is due meanwhile. */
  advance(length: Length): Promise<void>;
  /** Move the clock; nothing acts. */
  jump(length: Length): Promise<void>;
  waitFor(job: Named, status?: Status, options?: { within?: Length }): Promise<void>;
  /** The virtual time of day. `Date` and every timer follow it. */
  readonly now: Date;
  effects(name?: string, options?: { job?: Named }): SideEffect[];
  allEnqueued(slug?: string, wanted?: Wanted): Promise<Job[]>;
  assertEnqueued(slug?: string, wanted?: Wanted & { count?: number }): Promise<Job>;
  refuteEnqueued(slug?: string, wanted?: Wanted): Promise<void>;
  assertPath(job: Named, path: Status[]): Promise<void>;
  /** Judge by a function whenever something has happened: false or a throw is an anomaly. It must not be async. */
  always(check: () => unknown): void;
  /**
   * Judge by a function at the end of a run, in an explored test once every job has ended: false or a throw is an anomaly. It may be
   * async, and look into a database. It asks nothing of the harness.
   */
  atRest(check: () => unknown): void;
  /**
   * Wrap what stands for the world outside: each call is a side effect, with a gate before it and after its answer. Its data
   * are the one object that it is called with, else `{ args: [...] }`, or what `data` makes of the arguments.
   */
  external<Given extends any[], Answer>(
    name: string,
    answer?: (...given: Given) => Answer | Promise<Answer>,
    options?: { data?: (...given: Given) => Record<string, unknown> },
  ): (...given: Given) => Promise<Answer>;
}

export interface OwnWorkersOptions {
  /** Where jobs are: a table that `job-harness audit` knows by name (`pgboss10`, `pgboss`, `graphile-worker`, ...), or a file that describes one. */
  queue: string;
}

/** A side effect that a worker of the test's own declared; `worker` is null for one that was begun without `start`. */
export interface WorkerEffect {
  name: string;
  at: Date;
  worker: string | null;
  data: any;
}

/** A harness for workers that the test starts itself; jobs are sent by the library. */
export interface OwnWorkersHarness {
  /** An empty PostgreSQL for this test, on virtual time. */
  readonly databaseUrl: string;
  /** Begin a worker as a process of its own, which may die: whatever the function starts belongs to it. */
  start<Begun>(name: string, begin: () => Begun | Promise<Begun>): Promise<Begun>;
  /** Let a worker die now, or at the next effect or step of that name; it begins anew at once. */
  crashWorker(where?: { at?: string; worker?: string }): Promise<void>;
  /** A job by its id in the table. */
  job(id: string | number): Job;
  readonly jobs: Job[];
  advance(length: Length): Promise<void>;
  runUntilIdle(): Promise<void>;
  waitFor(job: Named, status?: Status, options?: { within?: Length }): Promise<void>;
  readonly now: Date;
  effects(name?: string): WorkerEffect[];
  always(check: () => unknown): void;
  external: Harness["external"];
}

/** Declare a side effect of the job at work, in the fake that stands for the world outside: await it. Elsewhere it does nothing. */
export declare function effect(
  name: string,
  data?: Record<string, unknown>,
  options?: { identity?: string; idempotent?: boolean },
): Promise<void>;

/** Name a point at which others may act and a worker may die: await it. Outside of a job it does nothing. */
export declare function step(name: string): Promise<void>;

export declare const version: string;

export interface ExploreOptions {
  /** Disturbed runs (200). */
  runs?: number;
  /** Real seconds that they may take together (three quarters of `timeout`). */
  seconds?: number;
  seed?: number;
  /** Of the whole test, in milliseconds (120 000). */
  timeout?: number;
  /** "worker": each run in a process of its own, which loads the file anew. Without `runs`, for 60 seconds. */
  isolate?: "worker";
  /** Whether calls of an `external`, of `fetch` and of undici's mocks are refused or lose their reply, too (true). */
  callsFail?: boolean;
}

/** Play the body many times, with crashes, pauses, lost messages and duplicates at every gate. */
export interface Explore extends ExploreOne {
  /** Of this file, only this test. */
  only: ExploreOne;
  skip: ExploreOne;
  /** Skip it where that is true; explore it where that is true. */
  skipIf(condition: unknown): ExploreOne;
  runIf(condition: unknown): ExploreOne;
}

export interface ExploreOne {
  (name: string, body: () => unknown): void;
  (name: string, options: ExploreOptions, body: () => unknown): void;
  /** A test for each case, named and called as by the runner's own `test.each`. */
  each: ExploreEach;
  /** A test for each value, which the body gets as it is: an array too. */
  for<Value>(cases: readonly Value[]): ExploreCases<[Value]>;
}

export interface ExploreEach {
  <Values extends unknown[] | [unknown]>(cases: readonly Values[]): ExploreCases<Values>;
  <Values extends readonly unknown[]>(cases: readonly Values[]): ExploreCases<Values>;
  <Value>(cases: readonly Value[]): ExploreCases<[Value]>;
  (cases: TemplateStringsArray, ...values: unknown[]): ExploreCases<[any]>;
}

export interface ExploreCases<Values extends readonly unknown[]> {
  (name: string, body: (...values: Values) => unknown): void;
  (name: string, options: ExploreOptions, body: (...values: Values) => unknown): void;
}

export interface JobMatchers<Result = void> {
  /** How often its processor was started. */
  toHaveRun(times: number): Result;
  toHaveStatus(status: Status): Result;
  toHavePath(path: Status[]): Result;
  toHaveOutput(output: unknown): Result;
  /** How often it had a side effect of this name: this many times, or at least once. */
  toHaveEffect(name: string, times?: number): Result;
}
