// Makes every reply from outside a gate of the run that waits for it: of a database, of HTTP, of any other connection.
//
// Who knows a library holds what a call of it comes to: pg, postgres.js, PGlite, `fetch`, Node's HTTP client, the mocks of
// undici. Of any other connection the bytes are held. What has come once nothing moves any more is announced in the order in which it was
// asked for, whatever the order in which it came: who goes on first is for the harness to choose, and runs reproduce.
//
// A run that is dead hears nothing any more, for a promise of JavaScript cannot be cancelled: what it asks is never answered.
// What it held is given back, as if its process had ended: its connections of a pool, its transaction.
// Must not know: processors, messages, turns.
//
// Leans on `release` of a client of pg-pool, on `processID` and `connection.stream` of pg's Client, on the handlers of
// undici's dispatchers, on `handle`, `state`, `handler` and `options` of postgres.js's Query, on `execute` and `reserved` of
// its connections, in 4 on `lease`, `closed` and `simple` of them and on the channel of its transactions, and on `_write`,
// `_writev`, `push`, `kBufferCb` and `_httpMessage` of net.Socket; checked with pg 8.23, PGlite 0.5, undici 7 and postgres 3.4
// and 4.2 on Node 20.20 and 24.19.
import { AsyncLocalStorage } from "node:async_hooks";

export const FOREVER = new Promise(() => {});
const POSTGRES_JS = ["query", "types", "index"];
/** Of 4 there is only what `import` brings; 3 has it beside its `cjs`. */
const POSTGRES_JS_INDEX = /(?:cjs[\\/])?(src[\\/])index\.js$/;
/** Where packages keep what `import` of them brings, which no cache of Node's shows: beside what `require` brings. */
const MODULES = [
  ["@electric-sql/pglite", "watchPGlite", (file) => [file.replace(/\.cjs$/, ".js")]],
  ["postgres", "watchPostgresJs", (file) => POSTGRES_JS.map((name) => file.replace(POSTGRES_JS_INDEX, `$1${name}.js`))],
];
const PACKAGES = [
  [/[\\/]pg[\\/]lib[\\/]index\.js$/, "watchPg"],
  [/[\\/]postgres[\\/]cjs[\\/]src[\\/]index\.js$/, "watchPostgresJs", POSTGRES_JS],
  [/[\\/]pglite[\\/]dist[\\/]index\.cjs$/, "watchPGlite"],
  [/[\\/]undici[\\/]index(-fetch)?\.js$/, "watchUndici"],
  [/[\\/]ioredis[\\/]built[\\/]index\.js$/, "watchRedis"],
  [/[\\/]better-sqlite3[\\/]lib[\\/]index\.js$/, "watchSqlite"],
];
const FILES = ["writeFile", "appendFile", "rename", "unlink", "rm", "copyFile"];
/** What Node makes for that of which nothing is known here. */
const NO_GATES = { PROCESSWRAP: "a child process", WORKER: "a worker thread", HTTP2STREAM: "HTTP/2" };
const HANDLER = /^on(Headers|Data|Complete|Error|Response\w+)$/;
// A statement that takes longer may wait for a lock: the server is asked, and its word decides.
const LOCK_MS = 5;
// The same where it cannot be asked.
const LONG_LOCK_MS = 1_000;
const WAITS = "SELECT cardinality(pg_blocking_pids($1)) > 0 AS waits";
const LIVES = "SELECT count(*) > 0 AS lives FROM pg_stat_activity WHERE pid = $1";
// What is told to close is waited for so long, in real time.
const CLOSE_MS = 1_000;
// Rounds of the loop of Node within which a library that hears of a lost connection has told each caller that waits for it.
const REJECTED_WITHIN = 10;
// The codes of StartupMessage 3.x and of SSLRequest, after four bytes of length.
const POSTGRES = new Set([0x0003_0000, 0x0003_0002, 80877103]);
const READY = Buffer.from([0x5a, 0, 0, 0, 5]);

/** Whether these bytes open a connection to PostgreSQL. */
export function opensPostgres(bytes) {
  return bytes.length >= 8 && POSTGRES.has(bytes.readUInt32BE(4));
}

/** The last message of what a client says to PostgreSQL: a query, a Sync, a Terminate; null: these bytes are no such messages. */
function lastToPostgres(bytes) {
  let at = 0;
  let last = null;
  while (at + 5 <= bytes.length) {
    last = String.fromCharCode(bytes[at]);
    at += 1 + bytes.readUInt32BE(at + 1);
  }
  return at === bytes.length && last !== null && "QSXPBDECFHdcfp".includes(last) ? last : null;
}

/** Whether PostgreSQL has answered, and is ready for the next statement. */
export function isReady(chunk) {
  return chunk.length >= 6 && READY.equals(chunk.subarray(chunk.length - 6, chunk.length - 1));
}

const readers = new WeakMap();

/**
 * Let `owner` hear what a socket reads into a buffer of its user's, of which no `push` tells: what `onread` of net.connect asks
 * for. `hears(chunk, pass)` has the bytes as its own, and hands them on by `pass`.
 */
export function hearReads(owner, socket, hears) {
  const owners = readers.get(socket) ?? new Set();
  if (owners.has(owner)) return;
  readers.set(socket, owners.add(owner));
  const callback = Object.getOwnPropertySymbols(socket).find(({ description }) => description === "kBufferCb");
  const real = callback && socket[callback];
  if (typeof real !== "function") return;
  socket[callback] = function (length, buffer) {
    const chunk = Buffer.from(buffer.subarray(0, length)); // The next read writes over it.
    return hears(chunk, () => (buffer.set(chunk), real.call(this, length, buffer)));
  };
}

export class Replies {
  /**
   * `run()` is whose code this is, or null; `isDead(run)` whether nothing of it is heard any more; `others(run)` whether another
   * one may go on. `stand(run, point, line)` resolves when a run may pass a gate; `calls(run, point, line, method)` when it may send
   * a request, with what goes wrong with that (`REFUSED`, `UNANSWERED`) or null; `place()` is where in the user's code this is,
   * and `line()` at which of its lines.
   * `unawaited(point)` hears what a run asks once it has ended well: it cannot wait for the reply.
   * `blind(what)` hears what could be no gate, `opens(what)` which connections a run opens of which only the bytes are known; `isOurs(socket)` tells the harness's own. `require` is that of the realm whose packages are watched.
   */
  constructor({ require, run, isDead, others, stand, calls = async () => null, place, line, unawaited = () => {}, blind, opens, isOurs, milliseconds }) {
    Object.assign(this, { require, here: run, isDead, others, stand, calls, place, line, unawaited, blind, opens, isOurs, milliseconds });
    this.inside = new AsyncLocalStorage();
    /** The line that made the request which a fake answers in this code. */
    this.answering = new AsyncLocalStorage();
    this.watched = new Set();
    this.modules = new Map();
    this.undo = [];
    this.probes = new Map();
    /** Connections of which more is known than their bytes. */
    this.known = new WeakSet();
    /** Those that postgres.js has opened and used, with its word for the session. */
    this.spoken = new WeakMap();
    /** By what postgres.js knows a server's session by, the options of its pool. */
    this.pools = new WeakMap();
    /** Where the queries of postgres.js 4 were written. */
    this.written = new WeakMap();
    /** Who has connected each client of pg. */
    this.owners = new WeakMap();
    /** The error of a connection that a dead run had. */
    this.gone = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
    this.forget();
  }

  forget() {
    this.asked = 0;
    /** Questions that no one has answered yet. */
    this.open = new Set();
    /** What was answered, and is held until nothing moves any more. */
    this.held = [];
    /** What may be heard once its run has passed a gate. */
    this.standing = new Set();
    /** Clients of pg, with the run that used each last. */
    this.clients = new Map();
    /** Connections of postgres.js in a transaction, with the run that began it. */
    this.transactions = new Map();
    /** Transactions of postgres.js 4 that have no connection yet, with the question of whose it is. */
    this.leases = new Map();
    /** The sockets that postgres.js has opened for runs. */
    this.opened = new Set();
    /** What is closing, or is a library's own work, and since when. */
    this.closing = new Map();
    this.sockets = new Map();
    this.places = new Map();
    this.deaths = new Map();
    this.endedWell = new WeakSet();
  }

  // questions ----------------------------------------------------------------------------------------------------

  /** What the present run asks outside; null: this is no run, or a part of a question that is known. */
  ask(what, { place: written, line, ...more } = {}) {
    const run = this.inside.getStore() ? null : this.here();
    if (run === null) return null;
    const place = this.place() || written || this.places.get(run) || ""; // What a pool calls back knows nothing of who called it.
    this.places.set(run, place);
    const call = `${what}${place && ` in ${place}`}`;
    const question = { number: ++this.asked, run, call, point: `reply to ${call}`, since: this.milliseconds(), line: this.line?.() ?? line, known: true, ...more };
    this.open.add(question);
    if (question.known && this.endedWell.has(run)) this.unawaited(question.point);
    return question;
  }

  /** Whether code of a dead run is asking. */
  get dead() {
    const run = this.here();
    return run !== null && this.isDead(run);
  }

  /** Hold what a call comes to until the run that makes it has passed a gate. */
  call(what, real, more = {}) {
    if (this.dead) return FOREVER;
    const question = this.ask(what, more);
    return question === null ? real() : this.answer(question, this.inside.run(true, real));
  }

  /** Send a request, unless it is refused; where its reply is lost, its caller hears so when that would have come. */
  async request(question, { method, signal }, real) {
    const fails = await this.calls(question.run, question.call, question.line, method);
    if (fails === REFUSED || fails === SILENT) this.open.delete(question);
    if (fails === REFUSED) throw failedFetch(refusedConnection());
    if (fails === SILENT) await this.silence(signal).catch((why) => { throw why === signal?.reason ? why : failedFetch(why); });
    if (fails === TURNED_AWAY) return this.answer(question, new Response(UNAVAILABLE.body, UNAVAILABLE));
    const response = await this.answer(question, this.answering.run(question.line, () => this.inside.run(true, real)));
    if (fails !== UNANSWERED) return response;
    question.drop();
    throw failedFetch(closedConnection());
  }

  silence(signal, milliseconds) {
    return silence(this.require("node:timers"), signal, milliseconds);
  }

  async answer(question, promise) {
    const ending = await Promise.resolve(promise).then((value) => ({ value }), (error) => ({ error }));
    question.drop = () => void ending.value?.body?.cancel?.()?.catch?.(() => {});
    await this.gate(question);
    if ("error" in ending) throw ending.error;
    return ending.value;
  }

  /** Resolves when the run of a question that was answered may go on. */
  gate(question) {
    this.open.delete(question);
    return new Promise((pass) => this.isDead(question.run) || this.held.push({ question, pass }));
  }

  /** Let the runs whose questions were answered stand at their gates; called once nothing moves any more. */
  announce() {
    for (const { question, pass } of inTurn(this.held.splice(0))) {
      this.standing.add(question);
      void this.stand(question.run, question.point, question.line).then(() => {
        this.standing.delete(question);
        pass();
      });
    }
  }

  /** A run has ended well: what it has asked, or asks from here on, nothing of it waits for. */
  endsWell(run) {
    const onSockets = [...this.sockets.values()].flatMap(({ question }) => question ?? []);
    const asked = [...this.open, ...this.held.map(({ question }) => question), ...this.standing, ...onSockets];
    for (const question of asked) if (question.run === run && question.known) this.unawaited(question.point);
    this.endedWell.add(run);
  }

  /** Whether a run waits for what it has asked, or for what another run has to give back. */
  keeps(run) {
    return this.held.some(({ question }) => question.run === run) || [...this.open].some((question) => question.run === run && (question.blocked || question.inProcess) && this.others(run));
  }

  /** Whether a run waits for a reply that is on its way. */
  isAsking(run) {
    return [...this.open].some((question) => question.run === run && question.real);
  }

  /** How many replies are on their way: asked for and not answered, unless another run has to go on first. */
  pending() {
    const now = this.milliseconds();
    for (const [what, since] of this.closing) if (now - since > CLOSE_MS) this.closing.delete(what);
    const wanted = [...this.open].filter(({ real }) => real);
    for (const question of wanted) if (question.waited || now - question.since > LOCK_MS) this.probe(question, now);
    return wanted.filter(({ blocked }) => !blocked).length + this.closing.size;
  }

  /** A new turn: what was held up may be so no more. */
  look() {
    for (const question of this.open) Object.assign(question, { blocked: false, since: this.milliseconds() });
  }

  /** Whether what was asked on a connection may wait for another run, which can go on. */
  mayWait(socket) {
    const { question } = this.sockets.get(socket) ?? {};
    return question ? this.others(question.run) : false;
  }

  /** Whether it is known without its bytes when a connection waits for a reply, or that it has come. */
  knows(socket) {
    return this.answers(socket) || Boolean(this.sockets.get(socket)?.chunks) || [...this.clients.keys()].some((client) => client.connection?.stream === socket);
  }

  /** Whether a query of postgres.js waits on a connection. Its bytes tell the rest: its reply may come in two portions. */
  answers(socket) {
    const state = this.spoken.get(socket);
    return Boolean(state) && [...this.open].some(({ query }) => query?.state === state);
  }

  // deaths -------------------------------------------------------------------------------------------------------

  /** Let nothing more come to a run, and give back what it held. */
  sever(run) {
    const theirs = [...this.open].filter((question) => question.run === run);
    for (const question of theirs) this.open.delete(question);
    for (const { question } of this.held.filter(({ question }) => question.run === run)) question.drop?.();
    this.held = this.held.filter(({ question }) => question.run !== run);
    for (const [socket, { question }] of this.sockets) if (question?.run === run) this.reset(socket);
    for (const [client, user] of this.clients) if (user === run) this.giveBack(client, theirs.some((question) => question.client === client && question.blocked));
    for (const question of theirs) if (question.query) this.abandon(question);
    for (const { query } of theirs) if (query) this.inTransaction(query, run);
    this.leased(run);
    for (const [connection, { run: user, state, options }] of this.transactions) {
      const ends = theirs.some(({ query, call }) => query?.state === state && /^(COMMIT|ROLLBACK)/.test(call));
      if (user === run && connection.lease) this.endLease(connection, options, ends);
      else if (user === run && connection.reserved && !ends) this.rollBack(connection);
    }
    for (const die of this.deaths.get(run) ?? []) die();
  }

  /** A library of which nothing is known must hear that its connection is gone, or its pool would keep it. */
  reset(socket) {
    this.sockets.delete(socket);
    socket.destroy(this.gone);
  }

  giveBack(client, blocked) {
    const run = this.clients.get(client);
    this.clients.delete(client);
    if (typeof client.release !== "function") {
      const end = this.owners.get(client) === run ? () => client.end() : () => client.query("ROLLBACK");
      return void this.inside.run(true, () => Promise.resolve(end()).catch(() => {}));
    }
    if (blocked) void this.asking(client, "SELECT pg_terminate_backend($1)").catch(() => {});
    try {
      client.release(true);
    } catch {
      return; // It is back in its pool.
    }
    this.closing.set(client, this.milliseconds());
    void this.rolledBack(client, run);
  }

  /** The server rolls back after its client has gone, in its own time: until then others wait for what the run had locked. */
  async rolledBack(client, run) {
    await new Promise((gone) => client.once("end", gone)); // What is asked here is no question of the run that the event belongs to.
    try {
      while (this.closing.has(client) && this.others(run) && (await this.asking(client, LIVES)).lives);
    } catch {
      // It cannot be asked.
    }
    this.closing.delete(client);
  }

  /** A run that has ended by itself has given back what it held. */
  over(run) {
    for (const [client, user] of this.clients) if (user === run) this.clients.delete(client);
    for (const [connection, { run: user }] of this.transactions) if (user === run) this.transactions.delete(connection);
  }

  atDeath(run, die) {
    this.deaths.set(run, [...(this.deaths.get(run) ?? []), die]);
  }

  // installing ---------------------------------------------------------------------------------------------------

  /** Watch from here on; `again` finds what was loaded since. A `fetch` that is a gate already is left as it is. */
  begin(fetch = null) {
    this.forget();
    this.fetch = fetch;
    this.watchSockets();
    this.watchHttp();
    this.watchFiles();
    this.watchRejections();
    this.again();
  }

  again() {
    this.watchFetch();
    const names = Object.keys(this.require.cache);
    for (const name of names.length === this.loaded ? [] : names) {
      const [, watch, parts] = PACKAGES.find(([file]) => file.test(name)) ?? [];
      if (watch === undefined || this.require.cache[name]?.loaded === false) continue;
      const [first, ...more] = parts?.map((part) => this.require.cache[name.replace(/index\.js$/, `${part}.js`)].exports) ?? [this.require.cache[name].exports];
      this.once(first, watch, ...more);
    }
    this.loaded = names.length;
    if (process.moduleLoadList.includes("NativeModule sqlite")) this.once(this.require("node:sqlite"), "watchOwnSqlite");
    for (const [watch, ...modules] of this.modules.values()) this.once(modules[0], watch, ...modules.slice(1));
  }

  /** Find what only `import` brings, from a file of the user's on. */
  async find(file) {
    for (const [name, watch, files] of MODULES) {
      try {
        const found = files(this.require("node:module").createRequire(file).resolve(name));
        this.modules.set(name, [watch, ...(await Promise.all(found.map((each) => import(this.require("node:url").pathToFileURL(each).href))))]);
      } catch {
        // It is not installed; or this runner imports nothing by itself, and what it requires is in the cache.
      }
    }
  }

  once(exports, watch, ...more) {
    if (this.watched.has(exports)) return;
    this.watched.add(exports);
    this[watch](exports, ...more);
  }

  end() {
    for (const client of [...this.clients.keys()]) this.giveBack(client, [...this.open].some((question) => question.client === client));
    for (const [socket, { question }] of this.sockets) if (question) this.reset(socket);
    for (const socket of this.opened) this.close(socket);
    for (const probe of this.probes.values()) probe.then((client) => Promise.resolve(client.last).then(() => (client.pool ?? client).end())).catch(() => {});
    this.probes.clear();
    for (const undo of this.undo.splice(0).reverse()) undo();
    this.hearSoon();
    this.watched.clear();
    this.loaded = 0;
    this.fetch = undefined;
    this.forget();
  }

  replace(object, name, made) {
    const before = Object.getOwnPropertyDescriptor(object, name);
    const real = object[name];
    if (typeof real !== "function") return;
    const value = made(real);
    Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: before?.enumerable ?? false });
    this.undo.push(() => object[name] === value && (before ? Object.defineProperty(object, name, before) : delete object[name]));
  }

  // libraries ----------------------------------------------------------------------------------------------------

  watchPg({ Client, Pool }) {
    const replies = this;
    this.replace(Client.prototype, "connect", (connect) => function (...given) {
      if (replies.here() === null) return connect.apply(this, given);
      replies.known.add(this.connection.stream);
      replies.owners.set(this, replies.here());
      return replies.inside.run(true, () => connect.apply(this, inContext(given)));
    });
    this.replace(Client.prototype, "query", (query) => function (config, ...given) {
      if (replies.dead) return FOREVER;
      const question = replies.ask(statement(config), { real: true, client: this, connection: this });
      if (question === null) return query.call(this, config, ...given);
      replies.clients.set(this, question.run);
      replies.known.add(this.connection.stream);
      const at = given.findLastIndex((each) => typeof each === "function");
      if (at >= 0) {
        const [hear] = inContext([given[at]]);
        given[at] = (...said) => void replies.gate(question).then(() => hear(...said));
      }
      const answer = replies.inside.run(true, () => query.call(this, config, ...given));
      if (typeof answer?.then === "function") return replies.answer(question, answer);
      if (at >= 0) return answer;
      replies.open.delete(question);
      replies.blind("a cursor or a stream of pg");
      return answer;
    });
    this.replace(Pool.prototype, "connect", (connect) => function (callback) {
      if (replies.dead) return FOREVER;
      const full = this.totalCount >= this.options.max && this.idleCount === 0;
      const question = replies.ask("a connection of the pool", full ? { inProcess: true, known: false } : { real: true, known: false });
      if (question === null) return connect.call(this, callback);
      const { run } = question;
      const given = (error, client, release) => {
        replies.open.delete(question);
        if (!replies.isDead(run)) return true;
        release?.();
        return false;
      };
      const [hear] = inContext([callback]);
      if (hear) return replies.inside.run(true, () => connect.call(this, (...said) => void (given(...said) && hear(...said))));
      const connected = new Promise((resolve, reject) =>
        replies.inside.run(true, () => connect.call(this, (...said) => void (given(...said) && (said[0] ? reject(said[0]) : resolve(said[1]))))),
      );
      return connected;
    });
  }

  /** Ask the server of a client about its session, on a connection of our own. */
  async asking(client, sql) {
    const { host, port, user, password, database, ssl } = client;
    const key = [host, port, user, database].join(" ");
    const opened = async () => {
      const probe = new client.constructor({ host, port, user, password, database, ssl });
      probe.on("error", () => this.probes.delete(key));
      await probe.connect();
      probe.connection.stream.unref();
      return probe;
    };
    return this.inside.run(true, async () => {
      if (!this.probes.has(key)) this.probes.set(key, opened());
      const probe = await this.probes.get(key);
      const answer = Promise.resolve(probe.last).then(() => probe.query(sql, [client.processID]));
      probe.last = answer.catch(() => {}); // One after the other.
      return (await answer).rows[0];
    });
  }

  /** Find out whether a statement waits for a lock of another run, which may go on. */
  probe(question, now) {
    const { client, query } = question;
    if (!(client ?? query) || question.probed || question.blocked || !this.others(question.run)) return;
    const options = query && (this.pools.get(query.state) ?? optionsOf(query));
    if (query && !options) return void (question.blocked = now - question.since > LONG_LOCK_MS);
    question.probed = true;
    const told = client ? this.asking(client, WAITS) : this.askingPool(query, options, WAITS);
    // One that waited is asked for at once in the next turn: most turns do not let it go.
    told.then(({ waits }) => (question.blocked = question.waited = waits), () => {}).finally(() => (question.probed = false));
  }

  /**
   * postgres.js: what a query comes to is a question, whichever connection of the pool it gets, and whenever. What the library
   * asks for itself on a new connection is no question of a run's; that takes no virtual time, so it makes no difference
   * which connections a run finds open. In 4 a query has a connection or the pool's options at hand, where 3 has to be asked.
   */
  watchPostgresJs({ Query }, { Builder }, index) {
    const replies = this;
    this.postgres = { Query, factory: index.default ?? index };
    if (Builder === undefined) this.watchPostgresJs4(Query);
    this.replace(Query.prototype, "handle", (handle) => function () {
      if (this.executed) return handle.call(this);
      if (replies.inside.getStore()) {
        replies.works(this);
        return handle.call(this);
      }
      const { strings } = this.parts?.[0] ?? this;
      const begins = optionsOf(this) && /^begin\b/.test(strings[0]);
      if (replies.dead) return begins ? replies.leasedInVain(this, handle) : FOREVER;
      const at = this.origin ? written(this.origin) : replies.written.get(this);
      const question = replies.ask(statement(strings.join("?")), { ...at, query: this });
      if (question === null) return handle.call(this);
      if (begins) replies.leased(question.run);
      replies.holds(question, Builder);
      return replies.inside.run(question, () => handle.call(this));
    });
  }

  /** 4 keeps no stack with a query, and waits for a connection for a transaction before it asks anything. */
  watchPostgresJs4({ prototype }) {
    const replies = this;
    Object.defineProperty(prototype, "handler", {
      configurable: true,
      set(value) {
        Object.defineProperty(this, "handler", { value, writable: true, enumerable: true, configurable: true });
        if (replies.here() !== null && !replies.inside.getStore()) replies.written.set(this, { place: replies.place(), line: replies.line?.() });
      },
    });
    const channel = this.require("node:diagnostics_channel").tracingChannel("postgres:transaction");
    const over = (context) => {
      this.open.delete(this.leases.get(context));
      this.leases.delete(context);
    };
    const heard = {
      start: (context) => {
        const question = this.ask("a connection of the pool", { inProcess: true, known: false });
        if (question !== null) this.leases.set(context, question);
      },
      asyncEnd: over,
      error: over,
    };
    channel.subscribe(heard);
    this.undo.push(() => (delete prototype.handler, channel.unsubscribe(heard)));
  }

  /** A run waits no more for a connection of postgres.js 4 on which it begins a transaction. */
  leased(run) {
    const [context, question] = [...this.leases].find(([, each]) => each.run === run) ?? [];
    this.open.delete(question);
    this.leases.delete(context);
  }

  /** A dead run gets the connection for which it had waited: nothing of it hears so, and others need it. */
  leasedInVain(query, handle) {
    query.resolve = query.reject = () => this.endLease(query.connection, query.handler.options);
    return this.inside.run(true, () => handle.call(query));
  }

  /** Keep in mind for whom postgres.js 4 has set a connection aside. */
  inTransaction({ connection, state, handler }, run) {
    if (connection?.lease) this.transactions.set(connection, { run, state, options: handler.options });
  }

  /** End the transaction of a dead run, and give its connection back to the pool of postgres.js 4. */
  endLease(connection, options, ends = false) {
    this.transactions.delete(connection);
    if (connection.closed) return;
    if (!ends) {
      const query = new this.postgres.Query(["rollback"], [], Object.assign(() => {}, { options }), { simple: true });
      query.executed = true;
      this.works(query);
      this.inside.run(true, () => connection.simple(query, "rollback"));
    }
    this.inside.run(true, () => connection.lease.release());
  }

  /** Hold what a query of postgres.js comes to until its run has passed a gate. */
  holds(question, Builder) {
    const { query, run } = question;
    const { resolve, reject, options } = query;
    Object.defineProperties(question, {
      real: { get: () => query.state !== null },
      inProcess: { get: () => query.state === null }, // It waits for a connection: for a new one, or for that of another run.
    });
    const held = (settle) => (said) => {
      query.active = false;
      if (query.settled === false) query.settled = true;
      this.inTransaction(query, run);
      question.connection = query.state ?? question;
      this.closing.delete(query);
      void this.gate(question).then(() => settle.call(query, said));
    };
    Object.assign(query, { resolve: held(resolve), reject: held(reject) });
    if (query.cursorFn || query.forEachFn || query.streaming) this.blind("a cursor or a stream of postgres.js");
    if (options.onexecute) {
      const begins = (connection) => (this.transactions.set(connection, { run, state: query.state }), options.onexecute(connection));
      query.options = { ...options, onexecute: begins };
    }
    if (Builder === undefined || !query.tagged) return;
    // The last argument adds nothing to the text: it is told how to connect.
    const build = (before, parameters, types, pool) => (this.pools.set(query.state, pool), "");
    query.strings = [...query.strings, ""];
    query.args = [...query.args, Object.create(Builder.prototype, { build: { value: build } })];
  }

  /** A query of postgres.js that no run waits for, but the next turn does. */
  works(query) {
    this.closing.set(query, this.milliseconds());
    const over = () => void this.closing.delete(query);
    Promise.prototype.then.call(query, over, over);
  }

  /** A dead run's query: one that was sent is carried out, one that was not says nothing. */
  abandon({ query, blocked }) {
    if (query.state === null && optionsOf(query)) return void this.inside.run(true, () => query.cancel());
    if (query.state === null) return void Object.assign(query, { strings: ["SELECT 1"], args: [] });
    this.closing.set(query, this.milliseconds());
    if (blocked) this.inside.run(true, () => query.cancel());
  }

  /** Once its transaction is over, postgres.js takes a connection back. */
  rollBack(connection) {
    const { Query } = this.postgres;
    this.transactions.delete(connection);
    const query = new Query(["ROLLBACK"], [], (each) => void connection.execute(each), null, { simple: true, prepare: false });
    this.inside.run(true, () => query.catch(() => {}));
  }

  /** Ask the server of a query about its session, through a pool of our own. */
  async askingPool({ state }, options, sql) {
    return this.inside.run(true, async () => {
      const { shared } = options;
      const own = { ...options, max: 1, fetch_types: false, idle_timeout: null, max_lifetime: null, connect_timeout: null, onnotice() {}, onclose() {} };
      if (!this.probes.has(shared)) this.probes.set(shared, Promise.resolve({ pool: this.postgres.factory({ ...own, shared: { retries: 0, typeArrayMap: {} } }) }));
      const { pool } = await this.probes.get(shared);
      return (await pool.unsafe(sql.replace("$1", String(state.pid))))[0];
    });
  }

  /** Close a connection that a run has opened, as its process would; postgres.js opens the next one where it needs one. */
  close(socket) {
    socket.on("error", () => {});
    socket.destroy();
  }

  watchPGlite({ PGlite }) {
    const replies = this;
    const call = (what, real) => {
      if (replies.dead) return FOREVER;
      const question = replies.ask(what, { inProcess: true, connection: PGlite });
      return question === null ? real() : replies.answer(question, replies.inside.run(true, real));
    };
    const statements = (object) => (real) => function (sql, ...given) {
      return call(statement(Array.isArray(sql) ? sql.join("?") : sql), () => real.call(object ?? this, sql, ...given));
    };
    for (const verb of ["query", "exec", "sql"]) this.replace(PGlite.prototype, verb, statements(null));
    this.replace(PGlite.prototype, "transaction", (transaction) => function (body) {
      if (replies.inside.getStore() || replies.here() === null) return transaction.call(this, body);
      const context = AsyncLocalStorage.snapshot();
      const died = new Promise((_, reject) => replies.atDeath(replies.here(), () => reject(new Error("its worker has died"))));
      died.catch(() => {});
      const gated = (tx) => {
        const verbs = ["query", "exec", "sql"].map((verb) => [verb, { value: statements(tx)(tx[verb]) }]);
        return Object.create(tx, Object.fromEntries(verbs));
      };
      return call("COMMIT", () => transaction.call(this, (tx) => Promise.race([context(() => body(gated(tx))), died])));
    });
  }

  /** What stands for the network in a test answers at once; the real one is told by its connections. */
  watchUndici({ MockAgent }) {
    if (MockAgent === undefined) return;
    const replies = this;
    this.replace(MockAgent.prototype, "dispatch", (dispatch) => function (about, handler) {
      if (replies.dead) return true;
      const question = replies.ask(requested(about.method, about.origin));
      if (question === null) return dispatch.call(this, about, handler);
      const fail = (error) => (handler.onResponseError ? handler.onResponseError(null, error) : handler.onError(error));
      const sent = replies.calls(question.run, question.call, question.line, about.method).then((fails) => {
        if (fails === REFUSED) throw refusedConnection();
        if (fails === SILENT) {
          replies.open.delete(question);
          const given = new AbortController();
          const abort = (reason) => given.abort(reason);
          if (handler.onRequestStart) handler.onRequestStart({ abort, pause: () => {}, resume: () => {} }, {});
          else handler.onConnect?.(abort, null);
          return replies.silence(given.signal, about.headersTimeout || undefined);
        }
        const slow = replies.slow(question, handler, fails === UNANSWERED ? fail : null);
        if (fails === TURNED_AWAY) return turnAway(slow);
        return replies.answering.run(question.line, () => dispatch.call(this, about, slow));
      });
      sent.catch((error) => { // What it throws, as where no mock fits, its caller would hear at once.
        replies.open.delete(question);
        fail(error);
      });
      return true;
    });
  }

  /** A handler that hears what it is told once its run has passed a gate; or then, by `lost`, that no reply came. */
  slow(question, handler, lost = null) {
    let told = [];
    let asked = false;
    const passed = () => {
      const due = told;
      told = null;
      if (lost !== null) return void lost(closedConnection());
      for (const pass of due) pass();
    };
    const hear = (pass) => {
      if (told === null) return lost === null ? pass() : true;
      told.push(pass);
      if (!asked) void this.gate(question).then(passed);
      asked = true;
      return true;
    };
    return new Proxy(handler, {
      get: (target, name) => {
        const value = target[name];
        if (typeof value !== "function") return value;
        if (!HANDLER.test(String(name))) return value.bind(target);
        const context = AsyncLocalStorage.snapshot();
        return (...said) => hear(() => context(() => value.apply(target, said)));
      },
    });
  }

  /** One connection for all: what each command comes to is its own. */
  watchRedis({ Redis, Pipeline }) {
    const replies = this;
    this.replace(Redis.prototype, "sendCommand", (send) => function (command, ...given) {
      return replies.call(String(command?.name), () => send.call(this, command, ...given), { connection: this });
    });
    if (Pipeline) this.replace(Pipeline.prototype, "exec", (exec) => function (...given) {
      return replies.call("exec", () => exec.apply(this, given), { connection: this });
    });
  }

  watchSqlite(Database) {
    const database = new Database(":memory:");
    this.cannotHold(Object.getPrototypeOf(database.prepare("SELECT 1")), ["run", "get", "all"], "better-sqlite3");
    this.cannotHold(Database.prototype, ["exec"], "better-sqlite3");
    database.close();
  }

  watchOwnSqlite({ DatabaseSync, StatementSync }) {
    this.cannotHold(StatementSync.prototype, ["run", "get", "all"], "node:sqlite");
    this.cannotHold(DatabaseSync.prototype, ["exec"], "node:sqlite");
  }

  /** Name what answers before it returns: nothing can happen there. */
  cannotHold(object, verbs, what) {
    const replies = this;
    for (const verb of verbs) {
      this.replace(object, verb, (real) => function (...given) {
        replies.tell(what);
        return real.apply(this, given);
      });
    }
  }

  /** Name what a run uses whose replies are no gates. */
  tell(what) {
    if (this.here() !== null && !this.inside.getStore()) this.blind(what);
  }

  /** Something was made, of a type as Node's hooks call it. */
  made(type) {
    if (Object.hasOwn(NO_GATES, type)) this.tell(NO_GATES[type]);
  }

  /** `fetch` as it is now, a mock included; whatever a test put in its place stays what it is, but for the call. */
  watchFetch() {
    const { fetch } = globalThis;
    if (typeof fetch !== "function" || fetch === this.fetch) return;
    const apply = (target, self, given) => {
      if (this.dead) return FOREVER;
      const method = given[1]?.method ?? given[0]?.method ?? "GET";
      const signal = given[1]?.signal ?? given[0]?.signal;
      const question = this.ask(requested(method, given[0]?.url ?? given[0]));
      const real = () => Reflect.apply(target, self, given);
      return question === null ? real() : this.request(question, { method, signal }, real);
    };
    const ours = (this.fetch = new Proxy(fetch, { apply }));
    globalThis.fetch = ours;
    this.undo.push(() => globalThis.fetch === ours && (globalThis.fetch = fetch));
  }

  watchHttp() {
    const replies = this;
    this.replace(this.require("node:http").OutgoingMessage.prototype, "emit", (emit) => function (event, ...given) {
      if (event !== "response") return emit.call(this, event, ...given);
      if (replies.dead) return true;
      const question = replies.ask(requested(this.method, this.host ?? ""), { drop: () => cutOff(this.socket) });
      if (question === null) return emit.call(this, event, ...given);
      const context = AsyncLocalStorage.snapshot();
      void replies.gate(question).then(() => context(() => emit.call(this, event, ...given)));
      return true; // The caller listens: what comes of the body is kept.
    });
  }

  watchFiles() {
    const { promises } = this.require("node:fs");
    for (const verb of FILES) this.replace(promises, verb, (real) => (...given) => this.call(verb, () => real(...given)));
  }

  // connections of which only the bytes are known -----------------------------------------------------------------

  watchSockets() {
    const replies = this;
    const { prototype } = this.require("node:net").Socket;
    const hear = (socket, chunk, pass) => {
      const asked = replies.sockets.get(socket);
      if (asked?.opening && chunk !== null && isReady(chunk)) replies.sockets.delete(socket);
      return asked?.question ? asked.heard(pass) : pass();
    };
    const wrote = (socket, data) => {
      hearReads(replies, socket, (chunk, pass) => hear(socket, chunk, pass));
      replies.wrote(socket, data);
    };
    this.replace(prototype, "_write", (real) => function (data, ...more) {
      wrote(this, data);
      return real.call(this, data, ...more);
    });
    this.replace(prototype, "_writev", (real) => function (chunks, ...more) {
      wrote(this, chunks[0]?.chunk);
      return real.call(this, chunks, ...more);
    });
    this.replace(prototype, "push", (real) => function (...given) {
      return hear(this, given[0], () => real.apply(this, given));
    });
  }

  /** What a library asked for itself on a connection that is gone fails unheard: after the run, too, that it was opened in. */
  watchRejections() {
    const { gone } = this;
    this.ended = null;
    if (this.hearsAll) return;
    this.replace(process, "emit", (emit) => function (event, reason, ...given) {
      const ours = event === "unhandledRejection" && (reason === gone || (reason instanceof Object && Object.prototype.isPrototypeOf.call(gone, reason)));
      return ours || emit.call(this, event, reason, ...given);
    });
    this.hearsAll = this.undo.pop();
  }

  /** Hear of every rejection again, unless another run has begun: what the end of this one broke is rejected a little later. */
  hearSoon() {
    const { setImmediate } = this.require("node:timers");
    const ended = (this.ended = {});
    const wait = (rounds) => {
      if (this.ended !== ended) return;
      if (rounds > 0) return void setImmediate(wait, rounds - 1);
      this.hearsAll?.();
      this.hearsAll = null;
    };
    wait(REJECTED_WITHIN);
  }

  wrote(socket, data) {
    if (this.spoken.has(socket) && lastToPostgres(data) === "X") return this.closes(socket);
    const { query } = this.inside.getStore() ?? {};
    if (query) return this.wroteForQuery(socket, data, query);
    if (this.spoken.has(socket) || !socket.readable || this.isOurs(socket) || this.known.has(socket) || socket._httpMessage || this.here() === null || this.inside.getStore()) return;
    const before = this.sockets.get(socket);
    if (before?.question && before.question.run !== this.here() && !this.isDead(before.question.run)) {
      this.blind(`${named(socket)} that several jobs share`);
      return before.pass();
    }
    if (before?.question || before?.opening) return;
    if (socket.bytesWritten === 0) this.opens?.(`it opens ${named(socket)}`);
    const bytes = Buffer.isBuffer(data) ? data : Buffer.from(String(data ?? "").slice(0, 64), "latin1");
    if (opensPostgres(bytes)) return void this.sockets.set(socket, new Asked(null, true));
    const said = lastToPostgres(bytes);
    if (said === "X") return this.closes(socket);
    const known = said === "Q" || said === "S"; // Of anything else nothing says that a reply is to be waited for.
    const question = this.ask(named(socket), { drop: () => cutOff(socket), known });
    this.open.delete(question); // That it is on its way shows in the bytes.
    this.sockets.set(socket, new Asked(question, false, (asked) => this.gate(question).then(() => asked.pass())));
  }

  /** Only while it opens, the bytes of a connection of postgres.js say whether a reply is on its way. */
  wroteForQuery(socket, data, { state }) {
    if (!Buffer.isBuffer(data) || this.sockets.get(socket)?.opening) return;
    if (!opensPostgres(data)) return void this.spoken.set(socket, state);
    this.sockets.set(socket, new Asked(null, true));
    this.opened.add(socket);
  }

  /** It said good-bye: what follows is that it closes. */
  closes(socket) {
    this.closing.set(socket, this.milliseconds());
    socket.once("close", () => void this.closing.delete(socket));
  }
}

/** The options of the pool of a query of postgres.js 4; of 3 none are known by the query. */
function optionsOf({ handler }) {
  return handler?.options?.timers && handler.options;
}

/** Where a query of postgres.js was written: nothing of the user's is on the stack when it is sent. */
function written(origin) {
  const last = origin.trimEnd().split("\n").at(-1);
  const [, name = "", file, line] = /at (?:async )?(?:([\w$.]+) \()?(?:file:\/\/)?([^()]*?):(\d+):\d+\)?$/.exec(last) ?? [];
  if (file === undefined || /[\\/]node_modules[\\/]|^node:/.test(file)) return {};
  const base = file.split("?")[0].split(/[\\/]/).at(-1);
  return { place: name ? `${base}:${name.replace(/^Object\./, "")}` : base, line: [file.split("?")[0], Number(line)] };
}

/**
 * Replies in the order of their questions; but of one run the last first, unless they come on one connection: any may take
 * longer than those asked for after it, and a run that ends without one has forgotten to wait for it.
 */
function inTurn(held) {
  const runs = new Map();
  held.sort((one, other) => one.question.number - other.question.number);
  for (const each of held) {
    const connections = runs.get(each.question.run) ?? new Map();
    const connection = each.question.connection ?? each;
    runs.set(each.question.run, connections.set(connection, [...(connections.get(connection) ?? []), each]));
  }
  return [...runs.values()].flatMap((connections) => [...connections.values()].reverse().flat());
}

/** What was asked on a connection, and the bytes of the answer as long as they are held. */
class Asked {
  constructor(question, opening, answered) {
    Object.assign(this, { question, opening, answered, chunks: null });
  }

  heard(push) {
    if (this.chunks === null) {
      this.chunks = [];
      void this.answered(this);
    }
    this.chunks.push(push);
    return true;
  }

  pass() {
    this.question = null;
    for (const push of this.chunks?.splice(0) ?? []) push();
  }
}

/** What goes wrong with a call, in the words of a tape. */
export const REFUSED = "refuse calls";
export const UNANSWERED = "lose answer";
export const SILENT = "hang calls";
export const TURNED_AWAY = "turn calls away";
/** The answer that is no error to a client which does not look at its status. */
const UNAVAILABLE = {
  status: 503,
  statusText: "Service Unavailable",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ error: "service unavailable" }),
};
// How long undici waits for the beginning of a reply, unless it is told otherwise.
const LONGEST_WAIT_MS = 300_000;

/** What a call waits for to which no reply comes: that its caller gives up by its signal, or its client after that long. */
export function silence({ setTimeout, clearTimeout }, signal, milliseconds = LONGEST_WAIT_MS) {
  return new Promise((_, reject) => {
    if (signal?.aborted) return void reject(signal.reason);
    const timer = setTimeout(() => reject(timedOut()), milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Answer so to one of undici's handlers, of 7 or of before. */
function turnAway(handler) {
  const { status, statusText, headers, body } = UNAVAILABLE;
  const [chunk, ignore] = [Buffer.from(body), () => {}];
  if (handler.onRequestStart) {
    const controller = { abort: ignore, pause: ignore, resume: ignore };
    handler.onRequestStart(controller, {});
    handler.onResponseStart?.(controller, status, headers, statusText);
    handler.onResponseData?.(controller, chunk);
    return void handler.onResponseEnd?.(controller, {});
  }
  handler.onConnect?.(ignore, null);
  handler.onHeaders(status, Object.entries(headers).flat().map((each) => Buffer.from(each)), ignore, statusText);
  handler.onData(chunk);
  handler.onComplete([]);
}

function timedOut() {
  return Object.assign(new Error("Headers Timeout Error"), { name: "HeadersTimeoutError", code: "UND_ERR_HEADERS_TIMEOUT" });
}

export function refusedConnection() {
  return Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED", errno: -111, syscall: "connect" });
}

export function closedConnection() {
  return Object.assign(new Error("other side closed"), { name: "SocketError", code: "UND_ERR_SOCKET" });
}

/** As `fetch` tells it. */
function failedFetch(cause) {
  return new TypeError("fetch failed", { cause });
}

/** Close a connection unheard: code that waits for a reply waits forever, as in a process that is no more. */
function cutOff(socket) {
  socket?.removeAllListeners();
  socket?.on("error", () => {});
  socket?.destroy();
}

function named(socket) {
  return `a connection to ${socket._host ?? socket.remoteAddress ?? "a local socket"}`;
}

/** Functions that run in the context in which they were handed over. */
function inContext(given) {
  const context = AsyncLocalStorage.snapshot();
  return given.map((each) => (typeof each === "function" ? (...said) => context(() => each(...said)) : each));
}

/** What a statement does, and to which table: what is the same in each run. */
function statement(config) {
  const sql = String(typeof config === "string" ? config : (config?.text ?? "a statement"));
  const [, verb = "SQL"] = /^\s*(\w+)/.exec(sql) ?? [];
  const [, name] = /\b(?:from|into|update|table)\s+(?:only\s+|if\s+(?:not\s+)?exists\s+)?([\w."]+)/i.exec(sql) ?? [];
  return name === undefined ? verb.toUpperCase() : `${verb.toUpperCase()} ${name.replaceAll('"', "")}`;
}

/** A request without what may differ between runs: ports, ids in paths. */
function requested(method, where) {
  const text = String(where);
  const host = URL.canParse(text) ? new URL(text).hostname : text.split(":")[0];
  return `${String(method).toUpperCase()} ${host}`;
}
