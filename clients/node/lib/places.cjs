// Where in the user's own code something is done: `file.ts:function`, a name that survives a new line above, and the line.
"use strict";
const path = require("node:path");
const { fileURLToPath } = require("node:url");

const DEPTH = 30;
const OWN = __dirname;
const LIBRARY = /node_modules|node:/;
const TEST = /\.(?:test|spec)\.[cm]?[jt]sx?$|[\\/]__tests__[\\/]/;
const FRAME = /(?:\(|at (?:async )?)((?:file:\/\/)?[^()]+?):(\d+):\d+\)?$/;
/** What source maps make of a place, by the place: to read one costs milliseconds, and places come again and again. */
const known = new Map();

/** The frames of the user's that are on the stack, callers that await included, each with its place in the stack. */
function own() {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = DEPTH;
  Error.prepareStackTrace = (_, sites) => sites; // Unmapped.
  const sites = new Error().stack;
  Error.stackTraceLimit = stackTraceLimit;
  Error.prepareStackTrace = prepareStackTrace;
  return (Array.isArray(sites) ? sites : []).map((site, at) => ({ site, at, file: site.getFileName() ?? "" })).filter(({ file }) => file !== "" && !file.startsWith(OWN) && !LIBRARY.test(file));
}

/** The nearest named function of the user's; its file alone where nothing there has a name; "" where no file is theirs. */
function placeHere() {
  let nearest = "";
  for (const { site, file } of own()) {
    const base = path.basename(file.split("?")[0]);
    const name = site.getFunctionName();
    if (name) return `${base}:${name.replace(/^Object\./, "")}`;
    nearest ||= base;
  }
  return nearest;
}

/** The nearest line of the user's, as [file, number], and that of the processor which led there; undefined where no file is theirs. */
function lineHere() {
  const frames = own();
  return lineOf(frames[0], frames);
}

/** The line that lets something be done: not that of the fake which does it, if another one calls it. */
function callingLine() {
  const frames = own();
  return lineOf(frames.find((frame) => !isTest(frame)) ?? frames[1] ?? frames[0], frames);
}

function isTest({ file }) {
  return TEST.test(file.split("?")[0]);
}

/** The line of a frame, and that of the processor in which the call began that led there: helpers lie between. */
function lineOf(frame, frames) {
  const outer = frames.slice(frames.indexOf(frame) + 1).findLast((each) => !isTest(each));
  return outer === undefined ? mapped(frame) : [...mapped(frame), ...mapped(outer)];
}

function mapped(frame) {
  if (frame === undefined) return undefined;
  const { site, file } = frame;
  const place = `${file}:${site.getLineNumber()}:${site.getColumnNumber()}`;
  if (!known.has(place)) known.set(place, through(frame) ?? [fileOf(file), site.getLineNumber()]);
  return known.get(place);
}

/** The same frame as whoever reads source maps writes it: the runner, or Node with --enable-source-maps. */
function through({ at }) {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = DEPTH;
  const stack = String(new Error().stack).split("\n").filter((line) => /^\s+at /.test(line));
  Error.stackTraceLimit = stackTraceLimit;
  const [, file, line] = FRAME.exec(stack[at + MORE] ?? "") ?? [];
  return file === undefined ? undefined : [fileOf(file), Number(line)];
}
/** The frames of `lineOf`, `mapped` and `through` that stand where `own` was on the stack, less that one. */
const MORE = 2;

function fileOf(file) {
  return file.startsWith("file://") ? fileURLToPath(file) : file.split("?")[0];
}

module.exports = { callingLine, lineHere, placeHere };
