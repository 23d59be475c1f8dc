// Loaded into Node programs of a system whose time a supervisor owns (`node --require`): writes down from which line of the
// user's something is sent over each connection, and says it in a header of each call to the outside. Nothing else of the
// program is changed, and nothing waits for this. Must run on old releases of Node. Must not know: queues, jobs.
"use strict";
const fs = require("fs");
const http = require("http");
const https = require("https");
const Module = require("module");
const net = require("net");

const DEPTH = 30;
const FRAME = /^\s*at (?:async )?(?:.*? \()?((?:file:\/\/)?\/[^)?]+)(?:\?[^):]*)?:(\d+):\d+\)?$/;
const HERE = /^(localhost|127\..*|::1|0\.0\.0\.0|)$/;
const HEADER = "x-job-harness-line";
// The messages of PostgreSQL's that have the text of a statement, after their kind and length: Parse has a name before it.
const [QUERY, PARSE, HEAD] = [0x51, 0x50, 5];
const POOLED = Symbol("watched by job-harness");
const byText = new Map();
const into = fs.openSync(process.env.JOB_HARNESS_LINES, "a");

/** The nearest line of the user's, as [number, file]; undefined where no file is theirs: what is sent came of an event. */
function line() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = DEPTH;
  const { stack } = new Error();
  Error.stackTraceLimit = limit;
  for (const each of String(stack).split("\n")) {
    const [, url, number] = FRAME.exec(each) || [];
    if (url !== undefined && !url.includes("/node_modules/") && !url.includes(__filename)) return [number, decodeURI(url.replace(/^file:\/\//, ""))];
  }
  return undefined;
}

function statementOf(data) {
  if (!Buffer.isBuffer(data) || (data[0] !== QUERY && data[0] !== PARSE)) return "";
  const from = data[0] === QUERY ? HEAD : data.indexOf(0, HEAD) + 1;
  return data.utf8Slice(from, data.indexOf(0, from));
}

const { write } = net.Socket.prototype;
net.Socket.prototype.write = function (...given) {
  const found = this.remotePort === undefined ? undefined : byText.get(statementOf(given[0])) || line();
  if (found !== undefined) fs.writeSync(into, `${this.localPort}:${this.remotePort} ${found.join(" ")}\n`);
  return write.apply(this, given);
};

// A pool sends a statement when it has a connection, and whose line it was is told by no stack then.
const { _load } = Module;
Module._load = function (request, ...rest) {
  const loaded = _load.call(this, request, ...rest);
  if (request !== "pg-pool" || loaded.prototype[POOLED]) return loaded;
  const { query } = loaded.prototype;
  loaded.prototype[POOLED] = true;
  loaded.prototype.query = function (text, ...more) {
    const sql = typeof text === "string" ? text : text && text.text;
    if (!byText.has(sql)) byText.set(sql, line());
    return query.call(this, text, ...more);
  };
  return loaded;
};

/** The same as a header of a call to another host: a client sends it when no stack tells any more who asked. */
function headed(host) {
  const found = HERE.test(String(host || "").replace(/:\d+$/, "")) ? undefined : line();
  return found === undefined ? {} : { [HEADER]: `${found[0]} ${encodeURI(found[1])}` };
}

for (const module of [http, https]) {
  for (const method of ["request", "get"]) {
    const real = module[method];
    module[method] = function (...given) {
      const at = given.findIndex((each) => typeof each === "object" && each !== null && !(each instanceof URL));
      const options = at < 0 ? {} : given[at];
      const url = typeof given[0] === "object" && !(given[0] instanceof URL) ? {} : new URL(String(given[0]));
      if (Array.isArray(options.headers)) return real.apply(this, given);
      const told = { ...options, headers: { ...options.headers, ...headed(options.hostname || options.host || url.hostname) } };
      given.splice(at < 0 ? 1 : at, at < 0 ? 0 : 1, told);
      return real.apply(this, given);
    };
  }
}
if (Module.syncBuiltinESMExports) Module.syncBuiltinESMExports();

const { fetch } = globalThis;
if (fetch !== undefined) {
  globalThis.fetch = async function (input, init) {
    const asked = typeof input === "string" || input instanceof URL ? String(input) : "";
    const url = URL.canParse && URL.canParse(asked) ? new URL(asked) : undefined; // Node says why it is none.
    const more = url === undefined ? {} : headed(url.hostname);
    if (more[HEADER] === undefined) return fetch(input, init);
    return fetch(input, { ...init, headers: { ...Object.fromEntries(new Headers(init && init.headers)), ...more } });
  };
}
