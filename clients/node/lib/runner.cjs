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
const { playPin, writePin } = require("./pinned.cjs");
const { world } = require("./world.cjs");

const REPLAY = "JOB_HARNESS_REPLAY";
/** Names a file in which a test that takes the token up leaves its name: `job-harness replay` reads it. */
const TAKEN = "JOB_HARNESS_REPLAY_TAKEN";
/** Where a finding is written as a page. */
const FOUND = path.join(".job-harness", "found");
/** Set to anything, it keeps what is found as a test of its own, as --job-pin does in pytest. */
const PIN = "JOB_HARNESS_PIN";
/** How the name of a test begins that only looks whether a token is taken up. */
const TOKEN_OF = "token of ";
const EXPLORED_MS = 120_000;
/** The part of its time that a test searches; the rest is for making smaller what it found. */
const SEARCHED = 0.75;
const RUNS = 200;
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

/** `command(file, pattern)` is what runs one test, as it is typed; `alone(file, pattern)` as a program and its arguments;
 * `pattern()` is that of the names which the runner was asked for; `door` is where a test imports all of this from. */
function frontDoor({ test, expect, beforeEach, afterEach, afterAll, command, alone, pattern, door }) {
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
    if (process.env[REPLAY] && !process.env[PLAYS]) noticed();
    beforeEach(() => void (there.tested = true));
    // In a process that plays one run for another, that one opens what there is to open.
    beforeEach(() => void (there.latest = harness));
    beforeEach(() => process.env[PLAYS] || harness.open(expect.getState().currentTestName ?? "the jobs of this test"), BEGIN_MS);
    afterEach(() => process.env[PLAYS] || harness.close(), BEGIN_MS);
    afterAll(() => harness.tellNeverHappened("the tests of this file"));
    afterAll(async () => {
      if (--there.users > 0) return;
      there.time.leave();
      await there.disconnect();
      if (process.env[REPLAY] && !process.env[PLAYS] && there.tested && !there.replayed) throw new Error(NOT_TAKEN);
    }, BEGIN_MS);
    return harness;
  }

  /** Where no name of a file fits the pattern a runner skips all of it, its hooks too, and passes: have one that fits. */
  function noticed() {
    const name = nameOf(pattern());
    // The pattern of the line `Replay:` fits a name that tells this one from the test itself in what the runner lists.
    const told = [`${TOKEN_OF}${name}`, name].find((each) => new RegExp(pattern()).test(each));
    if (name !== undefined && !there.noticed) test(told, () => {});
    there.noticed = true;
  }

  /** A test whose body is played many times, with crashes, pauses, lost replies and duplicates at every gate. */
  function exploring(test) {
    const one = explored((name, play, timeout, body) => test(name, withFixtures((context) => play([], context), body), timeout));
    const each = (...cases) => explored((name, play, timeout) => test.each(...cases)(name, (...given) => play(given), timeout));
    // What Vitest's own `for` does: a case is one value, an array too.
    const forEach = (cases) => each(cases.map((value) => [value]));
    return Object.assign(one, { each, for: forEach });
  }

  /** A test of the runner's with `explore`; what it is extended to has that too. */
  function withExplore(test) {
    const [run, skip] = [exploring(test), exploring(test.skip)];
    const chosen = { only: exploring(test.only), skip, skipIf: (no) => (no ? skip : run), runIf: (yes) => (yes ? run : skip) };
    test.explore = Object.assign(run, chosen);
    const { extend } = test;
    if (extend) test.extend = (...fixtures) => withExplore(extend.apply(test, fixtures));
    return test;
  }

  /** `declared` tells the runner of a test: its name, what plays it with the values of a case, and its timeout. */
  const explored = (declared) => function exploreTest(name, options, body) {
    if (typeof options === "function") [options, body] = [{}, options];
    if (typeof (options ?? {}) !== "object") throw new TypeError(`test.explore: the options are ${kind(options)}; give them as { runs: 50 }`);
    let { runs, seconds, seed, timeout, isolate, callsFail = true, ...unknown } = options ?? {};
    refuseUnknown("test.explore", unknown, ["runs", "seconds", "seed", "timeout", "isolate", "callsFail"]);
    if (isolate !== undefined && isolate !== "worker") throw new TypeError(`test.explore: isolate can be "worker", not ${JSON.stringify(isolate)}`);
    if (typeof callsFail !== "boolean") throw new TypeError(`test.explore: callsFail is ${kind(callsFail)}; give true or false`);
    for (const [option, value] of Object.entries({ runs, seconds, seed, timeout })) {
      if (value !== undefined && typeof value !== "number") throw new TypeError(`test.explore: ${option} is ${kind(value)}; give a number`);
    }
    if (isolate && runs === undefined) seconds ??= ISOLATED_SECONDS;
    const limit = inspector.url() === undefined ? Math.max(isolate ? ISOLATED_MS : EXPLORED_MS, (seconds ?? 0) * 2_000) : HELD_MS;
    // The search ends by itself, and tells how far it came, before the runner ends the test and all of that is lost.
    if (seconds === undefined) [runs, seconds] = [runs ?? RUNS, ((timeout ?? limit) * SEARCHED) / 1_000];
    const nth = there.nth(`${expect.getState().testPath} ${name}`);
    const play = async (given, context) => {
      const harness = there.latest;
      const { currentTestName = name, testPath } = expect.getState();
      const called = Object.assign((harness) => body(...given, harness, context), { toString: () => String(body) });
      if (process.env[PLAYS]) return process.env[PLAYED_TEST] === currentTestName ? playOnce(harness, called, { place: process.env[PLAYS], file: testPath }) : undefined;
      if (harness === undefined || there.session === null) throw new Error(`test.explore(${JSON.stringify(name)}) needs a harness: call jobHarness() in this file.`);
      if (harness instanceof OwnWorkersHarness) throw new Error(OWN_EXPLORED);
      const before = new Set(there.host.processors.keys());
      await harness.close({ judge: false });
      harness.elsewhere ||= Boolean(isolate || process.env[REPLAY]);
      if (process.env[REPLAY]) there.replayed = true;
      if (process.env[REPLAY] && process.env[TAKEN]) fs.appendFileSync(process.env[TAKEN], `${currentTestName}\n`);
      const shown = testPath ? path.relative(process.cwd(), testPath) : "";
      const pin = ({ anomaly, token, message }) =>
        process.env[PIN] && writePin({ door, file: shown, test: currentTestName, body: String(body), anomaly, token, message });
      const asked = {
        pin,
        name: currentTestName,
        file: testPath,
        page: `${shown}${nth > 1 ? `#${nth}` : ""}`,
        command: `${REPLAY}=TOKEN ${command(shown, only(currentTestName))}`,
        token: process.env[REPLAY],
        found: path.join(process.cwd(), FOUND),
        runs, seconds, seed, before, callsFail,
      };
      const isolated = { command: alone(testPath, only(currentTestName)), test: currentTestName };
      const told = await explore(harness, called, { ...asked, isolated: isolate && isolated }).catch((error) => {
        if (isolate || !error.alone) throw error;
        const as = error.changed.length > 0 ? `, as earlier ones changed ${error.changed.join(", ")}` : "";
        process.stderr.write(`job-harness: ${currentTestName}: runs of one process are not the same${as}: so each run has a process of its own, as with { isolate: "worker" }\n`);
        harness.elsewhere = true;
        return explore(harness, called, { ...asked, seconds: Math.min(seconds ?? ISOLATED_SECONDS, ISOLATED_SECONDS), isolated });
      });
      harness.judged = true;
      for (const line of [told.cost, ...told.notes]) process.stderr.write(`job-harness: ${currentTestName}: ${line}\n`);
      tellUnjudged(currentTestName, told.unjudged ?? [], [...(told.doubts ?? []), ...there.host.takeDoubts()]);
    };
    declared(name, play, timeout ?? limit, body);
  };
  /** Play a finding that was kept: it passes where its run happens as its token says, and shows nothing any more. */
  function pinned(anomaly, { file, test: name, token, ...unknown }) {
    refuseUnknown("pinned", unknown, ["file", "test", "token"]);
    const play = () => playPin(alone(path.resolve(file), only(name)), { [REPLAY]: token, [PIN]: undefined });
    test(`${anomaly} in ${name}`, play, ISOLATED_MS);
  }

  withExplore(test);
  return { jobHarness, ownWorkers, pinned, test, it: test, expect, effect: declare, step };
}

/** Let Vitest read off a function which fixtures are wanted: those that the body takes from its second parameter. */
function withFixtures(play, body) {
  const wanted = /^(?:async\s*)?(?:function\b[^(]*)?\(\s*[\w$]+\s*,\s*(\{[^}]*\})/.exec(String(body))?.[1];
  return Object.assign(wanted ? (context) => play(context) : () => play(), wanted && { toString: () => `(${wanted}) => {}` });
}

/** A name that the runner's pattern lets through; none where there is no pattern, or it is no plain name. */
function nameOf(pattern) {
  if (!pattern) return undefined;
  const { source } = new RegExp(pattern);
  const name = source.replace(`(${TOKEN_OF})?`, "").replace(/^\^|\$$/g, "").replaceAll(".+", " ").replace(/\\(.)/g, "$1");
  return new RegExp(pattern).test(name) ? name : undefined;
}

/** A test's whole name as a pattern that means only it, and what looks for its token. Vitest calls it `group > test`, and matches `group test`. */
function only(name) {
  return `^(${TOKEN_OF})?${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(" > ", ".+")}$`;
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
    const told = (value) => (typeof value === "string" || value?.asymmetricMatch ? String(value) : JSON.stringify(value));
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
  /** Of one that a test expects without a number, there is at least one. */
  toHaveEffect(job, name, times) {
    const counted = matcher(`effects ${JSON.stringify(name)}:`, ({ effects }) => effects.filter(([each]) => each === name).length);
    const wanted = times ?? { asymmetricMatch: (count) => count > 0, toString: () => "at least 1" };
    return counted.call(this, job, wanted);
  },
};

module.exports = { frontDoor, typed };
