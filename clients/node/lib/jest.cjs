"use strict";
const path = require("node:path");
const { frontDoor, typed } = require("./runner.cjs");

const { test, expect, beforeEach, afterEach, afterAll } = require("@jest/globals");
const ALONE = ["--runInBand", "--coverage=false", "--silent", "--watchAll=false"];
const door = frontDoor({
  test, expect, beforeEach, afterEach, afterAll,
  alone: (file, pattern) => [process.execPath, path.join(path.dirname(require.resolve("jest/package.json")), "bin/jest.js"), file, "-t", pattern, ...ALONE],
  command: (file, pattern) => typed("npx", "jest", file, "-t", pattern),
  door: "job-harness/jest",
  pattern: () => globalThis[Object.getOwnPropertySymbols(globalThis).find(({ description }) => description === "JEST_STATE_SYMBOL")]?.testNamePattern,
});

exports.jobHarness = door.jobHarness;
exports.ownWorkers = door.ownWorkers;
exports.pinned = door.pinned;
exports.test = door.test;
exports.it = door.it;
exports.expect = door.expect;
exports.effect = door.effect;
exports.step = door.step;
