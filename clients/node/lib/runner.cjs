// What a test runner is given: `jobHarness`, `test.explore`, matchers. Vitest and Jest differ in what is handed in.
"use strict";
const path = require("node:path");
const { Harness, Job, declare, step } = require("./harness.cjs");
const { explore } = require("./explore.cjs");
const { world } = require("./world.cjs");

const REPLAY = "JOB_HARNESS_REPLAY";
const EXPLORED_MS = 120_000;
const BEGIN_MS = 60_000;

/** `command(file, name)` is what runs one test. */
function frontDoor({ test, expect, beforeEach, afterEach, afterAll, command }) {
  const there = world();
  expect.extend(matchers);

  function jobHarness(options = {}) {
    const harness = new Harness(options);
    there.users++;
    beforeEach(() => (there.latest = harness).open(expect.getState().currentTestName ?? "the jobs of this test"), BEGIN_MS);
    afterEach(() => harness.close(), BEGIN_MS);
    afterAll(async () => void (--there.users === 0 && (await there.disconnect())), BEGIN_MS);
    return harness;
  }

  /** A test whose body is played many times, with crashes, pauses, lost replies and duplicates at every gate. */
  test.explore = function exploreTest(name, options, body) {
    if (typeof options === "function") [options, body] = [{}, options];
    const { runs, seconds, seed, timeout, ...unknown } = options ?? {};
    for (const key of Object.keys(unknown)) throw new TypeError(`test.explore takes no ${JSON.stringify(key)}. Available: runs, seconds, seed, timeout.`);
    const played = async () => {
      const harness = there.latest;
      if (harness === undefined || there.session === null) throw new Error(`test.explore(${JSON.stringify(name)}) needs a harness: call jobHarness() in this file.`);
      await harness.close({ judge: false });
      const { currentTestName, testPath } = expect.getState();
      const file = testPath ? path.relative(process.cwd(), testPath) : "";
      const told = await explore(harness, body, {
        name: currentTestName ?? name,
        command: `${REPLAY}=TOKEN ${command(file, name)}`,
        token: process.env[REPLAY],
        runs, seconds, seed,
      });
      process.stderr.write(`job-harness: ${name}: ${told.cost}\n`);
    };
    test(name, played, timeout ?? Math.max(EXPLORED_MS, (seconds ?? 0) * 2_000));
  };

  return { jobHarness, test, expect, effect: declare, step };
}

/** A test's name as a pattern that means only it, in one word of a shell. */
function quoted(name) {
  return `'${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("'", "'\\''")}'`;
}

// matchers ---------------------------------------------------------------------------------------------------------

function about(job) {
  return job instanceof Job || typeof job?.toString === "function" ? String(job) : "something that is no job";
}

/** `read` takes what is compared from a job. */
function matcher(what, read) {
  return function match(job, expected) {
    if (typeof job?.id !== "string" || job.runs === undefined) {
      const hint = job instanceof Promise ? "it is a promise: await enqueue()" : `got ${typeof job}`;
      return { pass: false, message: () => `expected a job, what enqueue() returned; ${hint}` };
    }
    const found = read(job);
    const pass = this.equals(found, expected);
    const told = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const message = () =>
      `expected ${about(job)} ${pass ? "not " : ""}to have ${what} ${told(expected)}${pass ? "" : `, but it has ${told(found)}`}` +
      `${job.error === null ? "" : `\n  its last error: ${job.error}`}`;
    return { pass, message };
  };
}

const matchers = {
  toHaveRun: matcher("runs:", (job) => job.runs),
  toHaveStatus: matcher("status", (job) => job.status),
  toHavePath: matcher("path", (job) => job.path),
  toHaveOutput: matcher("output", (job) => job.output),
};

module.exports = { frontDoor, quoted };
