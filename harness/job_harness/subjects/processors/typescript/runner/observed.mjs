// Tells what a processor does outside without its author's help: real requests, statements of pg, files, mail.
// Each awaited call is a moment as well, at which the worker may die: what it did is known, and nothing came of it yet.
// Must not know: what a repetition means, other than that it is told. What `fetch=` of a test answers is seen in Python.
import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire, syncBuiltinESMExports } from "node:module";

const require = createRequire(import.meta.url);
const LONGEST = 20_000;
/** The call of ours in which this code runs: what a library does further down is its own affair. */
const inside = new AsyncLocalStorage();
const PACKAGES = [
  [/^pg$|[\\/]node_modules[\\/]pg[\\/](lib[\\/])?index\.js$/, watchPg],
  [/^nodemailer$|[\\/]node_modules[\\/]nodemailer[\\/](lib[\\/]nodemailer|index)\.js$/, watchNodemailer],
];
let connections = 0;

/** Watch from here on. `tell(what)` says what is done, `moment()` waits at a point where the worker may die. */
export function observe({ tell, moment }) {
  watchFetch({ tell, moment });
  watchHttp({ tell });
  watchFiles({ tell, moment });
  const Module = require("node:module");
  const load = Module._load;
  Module._load = function (request, ...rest) {
    const loaded = Reflect.apply(load, this, [request, ...rest]);
    for (const [name, watch] of PACKAGES) if (name.test(request)) watch(loaded, { tell, moment });
    return loaded;
  };
}

function text(body) {
  if (body === undefined || body === null) return null;
  if (typeof body === "string") return body.slice(0, LONGEST);
  if (body instanceof URLSearchParams) return String(body).slice(0, LONGEST);
  if (Buffer.isBuffer(body) || body instanceof Uint8Array) return Buffer.from(body).toString("utf8", 0, LONGEST);
  return null;
}

function watchFetch({ tell, moment }) {
  const real = globalThis.fetch;
  globalThis.fetch = async (resource, init = {}) => {
    if (inside.getStore()) return real(resource, init);
    const request = resource instanceof Request ? resource : null;
    const about = {
      method: init.method ?? request?.method ?? "GET",
      url: String(request ? request.url : resource),
      headers: Object.fromEntries(new Headers(init.headers ?? request?.headers)),
      body: text(init.body),
    };
    const number = tell({ kind: "http", ...about });
    const response = await inside.run(true, () => real(resource, init));
    tell({ kind: "answered", number, status: response.status });
    await moment();
    return response;
  };
}

/** Requests of node:http (axios, got, node-fetch) and of the package undici tell by channels of Node's own. */
function watchHttp({ tell }) {
  const { subscribe } = require("node:diagnostics_channel");
  subscribe("http.client.request.start", ({ request }) => {
    if (inside.getStore()) return;
    const url = `${request.protocol}//${request.getHeader("host") ?? request.host}${request.path}`;
    request[NUMBER] = tell({ kind: "http", method: request.method, url, headers: { ...request.getHeaders() }, body: null });
  });
  subscribe("http.client.response.finish", ({ request, response }) => {
    if (request[NUMBER]) tell({ kind: "answered", number: request[NUMBER], status: response.statusCode });
  });
  subscribe("undici:request:create", ({ request }) => {
    if (inside.getStore()) return;
    const headers = {};
    const list = Array.isArray(request.headers) ? request.headers : [];
    for (let at = 0; at + 1 < list.length; at += 2) headers[String(list[at])] = String(list[at + 1]);
    const url = `${request.origin}${request.path}`;
    request[NUMBER] = tell({ kind: "http", method: request.method, url, headers, body: text(request.body) });
  });
  subscribe("undici:request:headers", ({ request, response }) => {
    if (request[NUMBER]) tell({ kind: "answered", number: request[NUMBER], status: response.statusCode });
  });
}

const NUMBER = Symbol("the number of an observed request");

function watchFiles({ tell, moment }) {
  const fs = require("node:fs");
  const file = (verb) => (path, data) => {
    if (typeof path === "string" || path instanceof URL) tell({ kind: "file", verb, path: String(path), detail: text(data) ?? "" });
  };
  const verbOf = (name, options) => {
    const flag = typeof options === "object" && options !== null ? options.flag : undefined;
    return name.startsWith("append") || String(flag ?? "").startsWith("a") ? "append to" : "write";
  };
  for (const name of ["appendFile", "writeFile"]) {
    const later = fs.promises[name];
    fs.promises[name] = async (path, data, options) => {
      const done = await later(path, data, options);
      file(verbOf(name, options))(path, data);
      await moment();
      return done;
    };
    const now = fs[`${name}Sync`];
    fs[`${name}Sync`] = (path, data, options) => {
      const done = now(path, data, options);
      file(verbOf(name, options))(path, data);
      return done;
    };
    const called = fs[name];
    fs[name] = (path, data, ...rest) => {
      file(verbOf(name, rest[0]))(path, data);
      return called(path, data, ...rest);
    };
  }
  const moved = (from, to) => tell({ kind: "moved", path: String(from), to: String(to) });
  const renameLater = fs.promises.rename;
  fs.promises.rename = async (from, to) => (await renameLater(from, to), moved(from, to));
  const renameNow = fs.renameSync;
  fs.renameSync = (from, to) => (renameNow(from, to), moved(from, to));
  syncBuiltinESMExports();
}

function watchPg(pg, { tell, moment }) {
  const Client = pg.Client;
  if (!Client || Client.prototype[NUMBER]) return;
  Client.prototype[NUMBER] = true;
  const real = Client.prototype.query;
  Client.prototype.query = function (query, ...rest) {
    this[CONNECTION] ??= ++connections;
    const sql = typeof query === "string" ? query : (query?.text ?? "");
    const values = Array.isArray(rest[0]) ? rest[0] : (query?.values ?? []);
    const said = (result) =>
      tell({ kind: "sql", sql, values: values.map(String), rows: result?.rowCount ?? null, connection: this[CONNECTION] });
    const answer = Reflect.apply(real, this, [query, ...rest]);
    if (typeof answer?.then !== "function") {
      said(null);
      return answer;
    }
    return answer.then(async (result) => {
      said(result);
      await moment();
      return result;
    });
  };
}

const CONNECTION = Symbol("the number of an observed connection");

function watchNodemailer(nodemailer, { tell, moment }) {
  if (nodemailer[NUMBER]) return;
  nodemailer[NUMBER] = true;
  const create = nodemailer.createTransport;
  nodemailer.createTransport = (...options) => {
    const transport = create(...options);
    const send = transport.sendMail.bind(transport);
    transport.sendMail = (mail, ...rest) => {
      tell({ kind: "mail", to: String(mail?.to ?? ""), detail: `Subject: ${mail?.subject ?? ""}` });
      const sent = inside.run(true, () => send(mail, ...rest));
      return typeof sent?.then === "function" ? sent.then(async (result) => (await moment(), result)) : sent;
    };
    return transport;
  };
}
