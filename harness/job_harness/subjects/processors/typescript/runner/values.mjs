// What crosses the border between the processor and the harness: JSON, and reasons why something is none.
// Must not know: timers, modules, the channel.

const DEEPEST = 500;
// What errors are called after which no queue tries again: our own, and BullMQ's.
const FINAL = ["NonRetryableError", "UnrecoverableError"];

/** Answer `{ value, notes }`, or `{ bad }`: what JSON cannot hold, with its path. */
export function toJson(value, name) {
  const notes = [];
  const path = [];
  const seen = new Set();
  const walk = (item) => {
    const problem = scalarProblem(item);
    if (problem) throw new NoJson(`${name}${shown(path)} is ${problem}`);
    if (item === null || typeof item !== "object") return item;
    if (seen.has(item)) throw new NoJson(`${name}${shown(path)} contains itself`);
    if (path.length > DEEPEST) throw new NoJson(`${name} is nested deeper than ${DEEPEST} levels`);
    seen.add(item);
    const copy = typeof item.toJSON === "function" ? walk(item.toJSON()) : container(item);
    seen.delete(item);
    return copy;
  };
  const container = (item) => {
    if (Array.isArray(item)) return Array.from(item, (entry, index) => under(index, () => entry, true));
    const kind = Object.prototype.toString.call(item).slice(8, -1);
    if (kind !== "Object" && kind !== "Error") throw new NoJson(`${name}${shown(path)} is a ${kind}, which JSON loses`);
    if (item instanceof Error) throw new NoJson(`${name}${shown(path)} is an Error, which JSON makes {}`);
    const copy = {};
    for (const key of Object.keys(item)) {
      const entry = under(key, () => item[key], false);
      if (entry === undefined) continue;
      Object.defineProperty(copy, key, { value: entry, enumerable: true, configurable: true, writable: true });
    }
    return copy;
  };
  const under = (key, read, listed) => {
    path.push(key);
    try {
      const entry = readable(read);
      if (entry === undefined && listed) throw new NoJson(`${name}${shown(path)} is undefined, which JSON makes null`);
      if (entry === undefined) notes.push(`${name}${shown(path)} is undefined, which JSON drops`);
      return entry === undefined ? undefined : walk(entry);
    } finally {
      path.pop();
    }
  };
  const readable = (read) => {
    try {
      return read();
    } catch (error) {
      throw new NoJson(`${name}${shown(path)} cannot be read: ${described(error).message}`);
    }
  };
  try {
    return { value: walk(value), notes };
  } catch (error) {
    if (error instanceof NoJson) return { bad: error.message };
    return { bad: `${name}${shown(path)} cannot be read: ${described(error).message}` };
  }
}

class NoJson extends Error {}

function scalarProblem(item) {
  switch (typeof item) {
    case "bigint":
      return `the BigInt ${item}n, which JSON cannot hold`;
    case "function":
      return "a function, which JSON cannot hold";
    case "symbol":
      return "a symbol, which JSON cannot hold";
    case "undefined":
      return "undefined, which JSON cannot hold";
    case "number":
      return Number.isFinite(item) ? "" : `${item}, which JSON cannot hold`;
    default:
      return "";
  }
}

function shown(path) {
  return path.map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`)).join("");
}

/** Arguments of a call to the harness: what JSON cannot hold is told in words. */
export function lenient(value) {
  const seen = new Set();
  const walk = (item) => {
    if (item === undefined) return null;
    if (scalarProblem(item)) return String(item);
    if (item === null || typeof item !== "object") return item;
    if (seen.has(item)) return "[circular]";
    seen.add(item);
    const copy = copied(item);
    seen.delete(item);
    return copy;
  };
  const copied = (item) => {
    if (typeof item.toJSON === "function") return walk(item.toJSON());
    if (item instanceof Error) return described(item);
    if (item instanceof Headers || item instanceof URLSearchParams || item instanceof Map) {
      return Object.fromEntries([...item].map(([key, entry]) => [String(key), walk(entry)]));
    }
    if (item instanceof Set || Array.isArray(item)) return [...item].map(walk);
    const entries = Object.keys(item).filter((key) => item[key] !== undefined);
    return Object.fromEntries(entries.map((key) => [key, walk(item[key])]));
  };
  return walk(value);
}

/** Say what was thrown, whatever it was. */
export function described(thrown) {
  try {
    if (thrown !== null && typeof thrown === "object" && ("message" in thrown || thrown instanceof Error)) {
      return {
        name: String(thrown.name ?? thrown.constructor?.name ?? "Error"),
        message: String(thrown.message),
        stack: typeof thrown.stack === "string" ? thrown.stack : "",
        code: thrown.code === undefined ? null : String(thrown.code),
        final: thrown.retryable === false || FINAL.includes(thrown.name),
      };
    }
    return { name: "Thrown", message: typeof thrown === "string" ? thrown : JSON.stringify(lenient(thrown)), stack: "" };
  } catch (error) {
    return { name: "Thrown", message: "something that cannot be read", stack: String(error?.stack ?? "") };
  }
}
