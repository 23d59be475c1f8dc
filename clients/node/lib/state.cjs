// What a function remembers outside of itself: the variables of the modules and functions around it. Read through V8's
// own inspector, which sees what no code can: runs of an explored test share it, and a difference is named.
// Must not know: harnesses, runs.
"use strict";
const inspector = require("node:inspector");

const HANDLE = Symbol.for("job-harness.looked-at");
const PLACES = /^(Closure|Module|Block|Catch)\b/;
const GENERATED = /^(__vi_|__vite|_interop|__importDefault|exports$|module$|require$|jest$)|^_[a-z][\w]*$/;
const MOST = 200;
/** Imported functions that are followed, one calling the other. */
const DEEPEST = 3;
/** The harness of a test is no state of a processor. */
const OURS = /^(OwnWorkers)?Harness$/;
const OTHERS = /[\\/]node_modules[\\/]|^node:/;
const USED = /(?:(\w+)\.)?([\w$]+)\b/g;

/**
 * The variables around functions as `name -> value in words`; empty where this Node cannot tell. With `called`, also those around
 * the functions that they call by name.
 */
function stateAround(functions, { called = false } = {}) {
  if (process.getBuiltinModule === undefined) return new Map();
  const session = new inspector.Session();
  const found = new Map();
  try {
    session.connect();
    const files = called ? filesOf(session) : new Map();
    for (const each of functions) variables({ session, found, files }, each, called ? DEEPEST : 0);
  } catch {
    // A runner may keep the inspector for itself: then nothing is named.
  } finally {
    delete inspector[HANDLE];
    session.disconnect();
  }
  return found;
}

/** By the id of a script, the file that it is of. */
function filesOf(session) {
  const files = new Map();
  session.on("Debugger.scriptParsed", ({ params: { scriptId, url } }) => files.set(scriptId, url));
  posted(session, "Debugger.enable");
  posted(session, "Debugger.disable");
  return files;
}

function variables(looking, func, deep) {
  inspector[HANDLE] = func;
  const expression = 'process.getBuiltinModule("node:inspector")[Symbol.for("job-harness.looked-at")]';
  around(looking, posted(looking.session, "Runtime.evaluate", { expression }).result, deep);
}

function around(looking, { objectId, description }, deep, called = false) {
  const { session, found, files } = looking;
  const { internalProperties = [] } = posted(session, "Runtime.getProperties", { objectId });
  const inside = (name) => internalProperties.find((each) => each.name === name)?.value;
  const scopes = inside("[[Scopes]]");
  const file = files.get(inside("[[FunctionLocation]]")?.value.scriptId);
  if (scopes?.objectId === undefined || (called && (file === undefined || OTHERS.test(file)))) return;
  const used = deep > 0 ? [...description.matchAll(USED)] : [];
  for (const scope of posted(session, "Runtime.getProperties", { objectId: scopes.objectId, ownProperties: true }).result) {
    if (!PLACES.test(scope.value?.description ?? "")) continue;
    const of = { objectId: scope.value.objectId, ownProperties: true, generatePreview: true };
    for (const { name, value } of posted(session, "Runtime.getProperties", of).result.slice(0, MOST)) {
      if (value === undefined) continue;
      for (const func of calledBy(session, name, value, used)) around(looking, func, deep - 1, true);
      if (value.type === "function" || GENERATED.test(name) || OURS.test(value.className)) continue;
      found.set(name, words(value));
    }
  }
}

/** The functions that are called by this name, or as a part of what it names: what another module exports. */
function calledBy(session, name, value, used) {
  if (value.type === "function") return used.some(([, of, part]) => of === undefined && part === name) ? [value] : [];
  const parts = new Set(used.filter(([, of]) => of === name).map(([, , part]) => part));
  if (value.objectId === undefined || !GENERATED.test(name)) return [];
  const functionDeclaration = "function (part) { return this[part]; }";
  const read = (part) => posted(session, "Runtime.callFunctionOn", { functionDeclaration, objectId: value.objectId, arguments: [{ value: part }] });
  return [...parts].map((part) => read(part).result).filter(({ type }) => type === "function");
}

function words({ type, value, description, preview }) {
  if (type !== "object" || value === null) return String(description ?? JSON.stringify(value));
  const inside = [...(preview?.properties ?? []), ...(preview?.entries ?? [])];
  return `${description} ${JSON.stringify(inside)}`;
}

function posted(session, method, given) {
  let told = null;
  session.post(method, given, (error, result) => {
    if (error) throw error;
    told = result;
  });
  return told;
}

/** The names whose values differ. */
function changed(before, after) {
  return [...after].filter(([name, value]) => before.has(name) && before.get(name) !== value).map(([name]) => name);
}

module.exports = { changed, stateAround };
