// Where in the user's own code something is done: `file.ts:function`, a name that survives a new line above.
"use strict";
const path = require("node:path");

const DEPTH = 30;
const OWN = __dirname;
const LIBRARY = /node_modules|node:/;

/** The nearest named function of the user's; its file alone where nothing there has a name; "" where no file is theirs. */
function placeHere() {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = DEPTH;
  Error.prepareStackTrace = (_, sites) => sites; // Unmapped: where source maps are read, that costs milliseconds.
  const sites = new Error().stack;
  Error.stackTraceLimit = stackTraceLimit;
  Error.prepareStackTrace = prepareStackTrace;
  let nearest = "";
  for (const site of Array.isArray(sites) ? sites : []) {
    const file = site.getFileName() ?? "";
    if (file === "" || file.startsWith(OWN) || LIBRARY.test(file)) continue;
    const base = path.basename(file.split("?")[0]);
    const name = site.getFunctionName();
    if (name) return `${base}:${name.replace(/^Object\./, "")}`;
    nearest ||= base;
  }
  return nearest;
}

module.exports = { placeHere };
