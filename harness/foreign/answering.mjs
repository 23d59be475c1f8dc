// Runs in a Node child, as a script: answers questions on lines of JSON by the methods of another script's class.
//
// `node answering.mjs SCRIPT FOLDER`: the script exports a class `Answers`, made with the folder that the package is
// installed in, and an error class `Refused`, which says that nothing happened; any other error, that nobody knows what
// did. Where actors have sessions of their own, `session({ url })` answers another one, over a connection to that URL, as
// another process would have it. Date tells the time that the question carries as `now`. Timers do not fire: what a library would do by itself is
// asked for instead.
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

let milliseconds = 0;

function fakeDate() {
  const RealDate = globalThis.Date;
  const now = () => milliseconds;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length ? args : [now()], newTarget === globalThis.Date ? target : newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, key) => (key === "now" ? now : Reflect.get(target, key)),
  });
  RealDate.prototype.constructor = globalThis.Date;
}

class ParkedTimer {
  ref() {
    return this;
  }
  unref() {
    return this;
  }
  hasRef() {
    return false;
  }
  refresh() {
    return this;
  }
  close() {
    return this;
  }
  [Symbol.toPrimitive]() {
    return 0;
  }
}

function parkTimers() {
  const real = { clearTimeout: globalThis.clearTimeout };
  const clear = (timer) => {
    if (timer && !(timer instanceof ParkedTimer)) real.clearTimeout(timer);
  };
  globalThis.setTimeout = () => new ParkedTimer();
  globalThis.setInterval = () => new ParkedTimer();
  globalThis.clearTimeout = clear;
  globalThis.clearInterval = clear;
}

const channel = createWriteStream(null, { fd: 1 });
process.stdout.write = process.stderr.write.bind(process.stderr);
process.on("uncaughtException", (error) => console.error(error));
process.on("unhandledRejection", (error) => console.error(error));
fakeDate();
parkTimers();

const [script, folder] = process.argv.slice(2);
const { Answers, Refused } = await import(pathToFileURL(script).href);
// By name; the one without a name is asked one question after the other, all others beside each other.
const sessions = new Map([["", new Answers(folder)]]);

// `tell time`, `begin session` and `end session` are the protocol's own.
async function asked({ ask, session = "", with: given }) {
  if (ask === "tell time") return null;
  if (ask === "begin session") {
    sessions.set(session, await sessions.get("").session(given));
    return null;
  }
  if (ask === "end session") {
    sessions.delete(session);
    return null;
  }
  return (await sessions.get(session)[ask](given)) ?? null;
}

async function answer(question) {
  let told;
  try {
    told = { value: await asked(question) };
  } catch (error) {
    told = error instanceof Refused ? { refused: error.message } : { raised: `${error?.name}: ${error?.message}` };
  }
  channel.write(`\n@harness ${JSON.stringify({ id: question.id, ...told })}\n`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  if (question.with.now !== undefined) milliseconds = question.with.now;
  const answering = answer(question);
  if (question.session === undefined) await answering;
}
process.exit(0);
