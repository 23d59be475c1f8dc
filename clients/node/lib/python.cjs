// Where the Python side is, and how it is started. Must not know: lines, tests.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { version } = require("../package.json");

const VARIABLE = "JOB_HARNESS_PYTHON";
const WHAT_TO_INSTALL =
  `Install the Python package job-harness ${version} (Python 3.11 or newer) for \`python3\` or into .venv, ` +
  `or let ${VARIABLE} name a Python that has it.`;

/** What went wrong outside the test: the machine lacks something, or it went away. */
class EnvironmentUnavailable extends Error {
  constructor(message, hint = WHAT_TO_INSTALL) {
    super(hint ? `${message}\n  ${hint}` : message);
    this.name = "EnvironmentUnavailable";
  }
}

/** The commands that may start the Python side, the first that has it is taken; a named one is the only one. */
function candidates(environment = process.env, folder = process.cwd()) {
  const named = environment[VARIABLE];
  // A command that downloads what it runs is never a guess.
  if (named === "uvx") return [["uvx", `job-harness@${version}`]];
  if (named) return [asModule(named)];
  const scripts = process.platform === "win32" ? ["Scripts", "python.exe"] : ["bin", "python"];
  const roots = [environment.VIRTUAL_ENV, ...above(folder).map((each) => path.join(each, ".venv"))];
  const own = roots.filter(Boolean).map((root) => path.join(root, ...scripts)).filter((file) => fs.existsSync(file));
  return [...new Set([...own, "python3", "python"])].map(asModule);
}

// -P: a folder `harness` in the user's own repository is not ours.
const asModule = (python) => [python, "-P", "-m", "job_harness.doors.cli"];

function above(folder) {
  const found = [folder];
  while (path.dirname(found.at(-1)) !== found.at(-1)) found.push(path.dirname(found.at(-1)));
  return found;
}

/** Whether what a command printed means that it has no job-harness: then the next one is tried. */
function isAbsent(printed) {
  return /No module named '?harness|Unknown option: -P|unrecognized arguments: -P|invalid choice: 'serve'/.test(printed);
}

/** Why a command is no Python side, by what it printed. */
function whyAbsent(printed) {
  return /Unknown option: -P|unrecognized arguments: -P/.test(printed) ? "it is older than Python 3.11" : "it has no job-harness";
}

module.exports = { EnvironmentUnavailable, VARIABLE, WHAT_TO_INSTALL, candidates, isAbsent, version, whyAbsent };
