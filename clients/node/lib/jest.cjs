"use strict";
const { frontDoor, quoted } = require("./runner.cjs");

const { test, expect, beforeEach, afterEach, afterAll } = require("@jest/globals");
const door = frontDoor({
  test, expect, beforeEach, afterEach, afterAll,
  command: (file, name) => `npx jest ${file} -t ${quoted(name)}`,
});

exports.jobHarness = door.jobHarness;
exports.test = door.test;
exports.expect = door.expect;
exports.effect = door.effect;
exports.step = door.step;
