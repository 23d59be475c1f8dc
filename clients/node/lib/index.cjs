// What a fake in a module of its own imports: it does nothing where no job is at work.
"use strict";
const { Job, declare, step } = require("./harness.cjs");
const { version } = require("./python.cjs");

exports.effect = declare;
exports.step = step;
exports.Job = Job;
exports.version = version;
