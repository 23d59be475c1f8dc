// What a test runner is given: `jobHarness`, `test.explore`, matchers. Vitest and Jest differ in what is handed in.
"use strict";
const fs = require("node:fs");
const inspector = require("node:inspector");
const path = require("node:path");
const { isNativeError } = require("node:util/types");
const { Harness, Job, declare, kind, refuseUnknown, step, tellUnjudged, withoutOurs } = require("./harness.cjs");
const { explore, playOnce } = require("./explore.cjs");
const { PLAYS, PLAYED_TEST } = require("./isolated.cjs");
const { OwnWorkersHarness } = require("./own.cjs");
const { world } = require("./world.cjs");

const REPLAY = "JOB_HARNESS_REPLAY";
/** Names a file in which a test that takes the token up leaves its name: `job-harness replay` reads it. */
const TAKEN = "JOB_HARNESS_REPLAY_TAKEN";
const EXPLORED_MS = 120_000;
const BEGIN_MS = 60_000;
// A debugger may hold it at a breakpoint.
const HELD_MS = 24 * 3600_000;
// A run in a process of its own takes a start of the runner.
const ISOLATED_SECONDS = 60;
const ISOLATED_MS = 900_000;
const NOT_TAKEN =
  "JOB_HARNESS_REPLAY: none of the tests that ran here is explored, so nothing was replayed\n" +
  "  Run the file and the name that the line `Replay:` has.";
const OWN_EXPLORED =
  "test.explore cannot play workers of the test's own: which of their statements a crash falls between is not in its hands\n" +
  "  Search the processes themselves, as they are: job-harness explore system.yaml (docs/system_files.md).";

/** `command(file, pattern)` is what runs one test, as it is typed; `alone(file, pattern)` as a program and its arguments. */
function frontDoor({ test, expect, beforeEach, afterEach, afterAll, command, alone }) {
  const there = world();
  expect.extend(matchers);
  // Once in a realm: `jest.resetModules` may load this anew inside a test, where no hook can be set.
  if (!there.leaves) afterAll(() => there.time.leave());
  there.leaves = true;

  const jobHarness = (options = {}) => opened(new Harness(options));
  const ownWorkers = (options = {}) => opened(new OwnWorkersHarness(options));

  function opened(harness) {
    there.users++;
    there.time.enter();
    beforeEach(() => void (there.tested = true));
    // In a process that plays one run for another, that one opens what there is to open.
    beforeEach(() => void (there.latest = harness));
    beforeEach(() => process.env[PLAYS] || harness.open(expect.getState().currentTestName ?? "the jobs of this test"), BEGIN_MS);
    afterEach(() => process.env[PLAYS] || harness.close(), BEGIN_MS);
    afterAll(async () => {
      if (--there.users > 0) return;
      there.time.leave();
      await there.disconnect();
      if (process.env[REPLAY] && !process.env[PLAYS] && there.tested && !there.replayed) throw new Error(NOT_TAKEN);
    }, BEGIN_MS);
    return harness;
  }

  /** A test whose body is played many times, with crashes, pauses, lost replies and duplicates at every gate. */
  function exploring(test) {
    const one = explored((name, play, timeout) => test(name, () => play([]), timeout));
    const each = (...cases) => explored((name, play, timeout) => test.each(...cases)(name, (...given) => play(given), timeout));
    return Object.assign(one, { each });
  }

  /** `declared` tells the runner of a test: its name, what plays it with the values of a case, and its timeout. */
  const explored = (declared) => function exploreTest(name, options, body) {
    if (typeof options === "function") [options, body] = [{}, options];
    if (typeof (options ?? {}) !== "object") throw new TypeError(`test.explore: the options are ${kind(options)}; give them as { runs: 50 }`);
    let { runs, seconds, seed, timeout, isolate, ...unknown } = options ?? {};
    refuseUnknown("test.explore", unknown, ["runs", "seconds", "seed", "timeout", "isolate"]);
    if (isolate !== undefined && isolate !== "worker") throw new TypeError(`test.explore: isolate can be "worker", not ${JSON.stringify(isolate)}`);
    for (const [option, value] of Object.entries({ runs, seconds, seed, timeout })) {
      if (value !== undefined && typeof value !== "number") throw new TypeError(`test.explore: ${option} is ${kind(value)}; give a number`);
    }
    if (isolate && runs === undefined) seconds ??= ISOLATED_SECONDS;
    const play = async (given) => {
      const harness = there.latest;
      const { currentTestName = name, testPath } = expect.getState();
      const called = Object.assign((harness) => body(...given, harness), { toString: () => String(body) });
      if (process.env[PLAYS]) return process.env[PLAYED_TEST] === currentTestName ? playOnce(harness, called, { place: process.env[PLAYS], file: testPath }) : undefined;
      if (harness === undefined || there.session === null) throw new Error(`test.explore(${JSON.stringify(name)}) needs a harness: call jobHarness() in this file.`);
      if (harness instanceof OwnWorkersHarness) throw new Error(OWN_EXPLORED);
      const before = new Set(there.host.processors.keys());
      await harness.close({ judge: false });
      if (process.env[REPLAY]) there.replayed = true;
      if (process.env[REPLAY] && process.env[TAKEN]) fs.appendFileSync(process.env[TAKEN], `${currentTestName}\n`);
      const shown = testPath ? path.relative(process.cwd(), testPath) : "";
      const told = await explore(harness, called, {
        name: currentTestName,
        file: testPath,
        command: `${REPLAY}=TOKEN ${command(shown, only(currentTestName))}`,
        token: process.env[REPLAY],
        runs, seconds, seed, before,
        isolated: isolate && { command: alone(testPath, only(currentTestName)), test: currentTestName },
      });
      for (const line of [told.cost, ...told.notes]) process.stderr.write(`job-harness: ${currentTestName}: ${line}\n`);
      tellUnjudged(currentTestName, [...(told.unjudged ?? []), ...there.host.takeDoubts()]);
    };
    const limit = inspector.url() === undefined ? Math.max(isolate ? ISOLATED_MS : EXPLORED_MS, (seconds ?? 0) * 2_000) : HELD_MS;
    declared(name, play, timeout ?? limit);
  };
  test.explore = Object.assign(exploring(test), { only: exploring(test.only), skip: exploring(test.skip) });

  return { jobHarness, ownWorkers, test, expect, effect: declare, step };
}

/** A test's whole name as a pattern that means only it. Vitest calls it `group > test`, and matches `group test`. */
function only(name) {
  return `^${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(" > ", ".+")}$`;
}

/** A command as it is typed into a shell. */
function typed(...given) {
  return given.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

// matchers ---------------------------------------------------------------------------------------------------------

function about(job) {
  return job instanceof Job || typeof job?.toString === "function" ? String(job) : "something that is no job";
}

/** What a matcher that fails throws: a runner shows its cause with the lines of the processor, which `message` alone cannot have. */
function raised(words, cause) {
  const error = new Error(words, { cause: withoutOurs(cause) });
  return withoutOurs(error);
}

/** `read` takes what is compared from a job. */
function matcher(what, read) {
  return function match(job, expected) {
    if (typeof job?.id !== "string" || job.runs === undefined) {
      const hint = job instanceof Promise ? "it is a promise: await enqueue()" : `got ${job === null ? "null" : typeof job}`;
      throw new TypeError(`expected a job, what enqueue() returned; ${hint}`); // A `.not` must not pass on it either.
    }
    const found = read(job);
    const pass = this.equals(found, expected);
    const told = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const same = !pass && JSON.stringify(found) === JSON.stringify(expected) ? "\n  An output is what JSON holds of it: a Date has become text there." : "";
    const message = () =>
      `expected ${about(job)} ${pass ? "not " : ""}to have ${what} ${told(expected)}${pass ? "" : `, but it has ${told(found)}`}` +
      `${job.error === null ? "" : `\n  its last error: ${job.error}`}${same}`;
    const cause = world().host.thrown.get(job.id);
    if (pass === Boolean(this.isNot) && job.error !== null && isNativeError(cause)) throw raised(message(), cause);
    return { pass, message };
  };
}

const matchers = {
  toHaveRun: matcher("runs:", (job) => job.runs),
  toHaveStatus: matcher("status", (job) => job.status),
  toHavePath: matcher("path", (job) => job.path),
  toHaveOutput: matcher("output", (job) => job.output),
};

module.exports = { frontDoor, typed };
