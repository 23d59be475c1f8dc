// Runs as a peer in Node: carries out requests by the methods of another script's class.
//
// `node queue_host.mjs SCRIPT FOLDER`: the script exports a class `Answers`, made with the folder that the package is
// installed in, and an error class `Refused`, which says that nothing happened; any other error, that it is unknown what
// did. Where actors have sessions of their own, `session({ url })` makes one, over a connection to that URL, as another
// process would have it. Virtual time is what a message says; timers never fire: what a library would do by itself is
// asked for instead.
import { pathToFileURL } from "node:url";
import { Clock, install } from "./clock.mjs";
import { Peer, outcomeOf } from "./peer.mjs";

const peer = new Peer({ clock: true });
const clock = new Clock();
process.on("uncaughtException", (error) => console.error(error));
process.on("unhandledRejection", (error) => console.error(error));
install(clock, 0);

const [script, folder] = process.argv.slice(2);
const { Answers, Refused } = await import(pathToFileURL(script).href);
// By actor; the one without a name takes one request after the other, all others beside each other.
const sessions = new Map([[null, new Answers(folder)]]);

const MARK = "$job-harness";

function cycle() {
  const itself = {};
  return Object.assign(itself, { itself });
}

// Values that JSON cannot say, by name.
const MADE = {
  NUL: () => ({ text: "a\u0000b" }),
  surrogate: () => ({ text: "\ud800" }),
  bytes: () => Buffer.from([0xff]),
  NaN: () => ({ score: NaN }),
  cycle,
  huge: () => "x".repeat(8_000_000),
};

function made(told) {
  if (Array.isArray(told)) return told.map(made);
  if (told === null || typeof told !== "object") return told;
  if (MARK in told) return MADE[told[MARK]]();
  return Object.fromEntries(Object.entries(told).map(([name, value]) => [name, made(value)]));
}

async function carriedOut({ actor = null, do: wanted, with: given }) {
  if (wanted !== "begin") return sessions.get(actor)[wanted](made(given));
  sessions.set(actor, await sessions.get(null).session(given));
}

peer.serve({
  act: (message) => (message.go === undefined ? {} : outcomeOf(() => carriedOut(message), Refused)),
  now: (now) => (clock.now = now),
  sever: (actor) => sessions.delete(actor),
  beside: (message) => message.actor !== undefined,
});
