// The Python side of all files of a run, as `globalSetup` of Vitest or Jest: started once, found by the workers, and ended
// with the run, for it ends with the process that holds its input. Must not know: tests.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { Connection } = require("./connection.cjs");
const { EnvironmentUnavailable } = require("./python.cjs");

/** Names, in a worker, the socket at which it is found. */
const SHARED = "JOB_HARNESS_SHARED";

/** Returns what ends it. Where there is none to be had, each file says why; a run within a run has that of the outer one. */
async function setup() {
  if (process.platform === "win32" || process.env[SHARED]) return undefined;
  const place = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "job-harness-")), "s");
  const awake = setInterval(() => {}, 1_000); // Nothing else keeps this process while it waits.
  try {
    const connection = await Connection.open({ heard: () => {}, lost: () => {}, serve: ["--at", place] });
    process.env[SHARED] = place;
    return () => (delete process.env[SHARED], connection.close());
  } catch (error) {
    fs.rmSync(path.dirname(place), { recursive: true, force: true });
    if (!(error instanceof EnvironmentUnavailable)) throw error;
    return undefined;
  } finally {
    clearInterval(awake);
  }
}

module.exports = Object.assign(setup, { default: setup, SHARED });
