#!/usr/bin/env node
// `npx job-harness run|explore|check ...`: the command of the Python side, with its exit code; and `replay`, which plays
// a token of an explored test in the runner that the project has.
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { candidates, isAbsent, WHAT_TO_INSTALL } = require("../lib/python.cjs");

const USAGE = 2;
const ENVIRONMENT = 4;
const TAIL = 4_000;

function say(words) {
  process.stderr.write(`${words}\n`);
}

/** Run a command with our input and output; resolves with its exit code and the end of what went to standard error. */
function run([program, ...rest], environment = process.env) {
  return new Promise((resolve) => {
    const child = spawn(program, rest, { stdio: ["inherit", "inherit", "pipe"], env: environment, shell: process.platform === "win32" });
    let printed = "";
    let told = "";
    // What says that this Python has no job-harness is kept back: another one is tried.
    const tell = () => void (process.stderr.write(told), (told = ""));
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text) => {
      printed = (printed + text).slice(-TAIL);
      told += text;
      if (!isAbsent(printed) && printed.length > 200) tell();
    });
    const ends = ["SIGINT", "SIGTERM"].map((name) => [name, () => void (name === "SIGTERM" && child.kill(name))]);
    for (const [name, pass] of ends) process.on(name, pass);
    child.on("error", ({ code, message }) => {
      if (code !== "ENOENT") say(`job-harness: ${program} cannot be run: ${message}\n  ${WHAT_TO_INSTALL}`);
      resolve({ absent: code === "ENOENT", code: ENVIRONMENT });
    });
    child.on("close", (code, signal) => {
      for (const [name, pass] of ends) process.off(name, pass);
      const absent = isAbsent(printed);
      if (!absent) tell();
      resolve({ absent, code: signal === null ? code : 128 + (require("node:os").constants.signals[signal] ?? 0) });
    });
  });
}

async function passOn(given) {
  for (const command of candidates()) {
    const { absent, code } = await run([...command, ...given]);
    if (!absent) return code;
  }
  say(`job-harness: no Python here has it\n  ${WHAT_TO_INSTALL}`);
  return ENVIRONMENT;
}

/** `replay TOKEN FILE [-t NAME]`, in Vitest or Jest, whichever is installed. */
async function replay([token, file, ...more]) {
  if (token === undefined || file === undefined || !/^jh\d+_\w+$/.test(token)) {
    say("usage: job-harness replay TOKEN FILE [-t NAME]\n  The line `Replay:` of a failed test has all three.");
    return USAGE;
  }
  const bins = path.join(process.cwd(), "node_modules", ".bin");
  const [runner, ...verbs] = fs.existsSync(path.join(bins, "vitest")) ? ["vitest", "run"] : ["jest"];
  if (!fs.existsSync(path.join(bins, runner))) {
    say(`job-harness: neither vitest nor jest is in ${bins}\n  Run this in the folder of the project.`);
    return ENVIRONMENT;
  }
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "job-harness-"));
  const taken = path.join(folder, "taken");
  try {
    const told = { JOB_HARNESS_REPLAY: token, JOB_HARNESS_REPLAY_TAKEN: taken };
    const { code } = await run([path.join(bins, runner), ...verbs, file, ...more], { ...process.env, ...told });
    if (code !== 0 || fs.existsSync(taken)) return code;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  say(`job-harness: nothing was replayed: no explored test of ${file} was run\n  Compare the name after -t with that of the test.`);
  return USAGE;
}

const [command, ...rest] = process.argv.slice(2);
(command === "replay" ? replay(rest) : passOn(process.argv.slice(2))).then((code) => (process.exitCode = code));
