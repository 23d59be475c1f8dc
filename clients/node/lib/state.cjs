// What a function remembers outside of itself: the variables of the modules and functions around it. Read through V8's
// own inspector, which sees what no code can: runs of an explored test share it, and a difference is named.
// Must not know: harnesses, runs.
"use strict";
const inspector = require("node:inspector");

const HANDLE = Symbol.for("job-harness.looked-at");
const PLACES = /^(Closure|Module|Block|Catch)\b/;
const GENERATED = /^(__vi_|__vite|_interop|__importDefault|exports$|module$|require$|jest$)|^_[a-z][\w]*$/;
const MOST = 200;

/** The variables around functions as `name -> value in words`; empty where this Node cannot tell. */
function stateAround(functions) {
  if (process.getBuiltinModule === undefined) return new Map();
  const session = new inspector.Session();
  const found = new Map();
  try {
    session.connect();
    for (const each of functions) variables(session, each, found);
  } catch {
    // A runner may keep the inspector for itself: then nothing is named.
  } finally {
    delete inspector[HANDLE];
    session.disconnect();
  }
  return found;
}

function variables(session, func, found) {
  inspector[HANDLE] = func;
  const expression = 'process.getBuiltinModule("node:inspector")[Symbol.for("job-harness.looked-at")]';
  const { result } = posted(session, "Runtime.evaluate", { expression });
  const { internalProperties = [] } = posted(session, "Runtime.getProperties", { objectId: result.objectId });
  const scopes = internalProperties.find(({ name }) => name === "[[Scopes]]");
  if (scopes?.value?.objectId === undefined) return;
  for (const scope of posted(session, "Runtime.getProperties", { objectId: scopes.value.objectId, ownProperties: true }).result) {
    if (!PLACES.test(scope.value?.description ?? "")) continue;
    const inside = { objectId: scope.value.objectId, ownProperties: true, generatePreview: true };
    for (const { name, value } of posted(session, "Runtime.getProperties", inside).result.slice(0, MOST)) {
      if (value === undefined || value.type === "function" || GENERATED.test(name)) continue;
      found.set(name, words(value));
    }
  }
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
