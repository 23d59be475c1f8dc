// TypeScript to JavaScript, by Node itself; what was read once is kept, because Node needs 30 ms to begin.
// Must not know: how modules are found.
import { hash } from "node:crypto";
import fs from "node:fs";
import module from "node:module";
import path from "node:path";

const MOST_KEPT = 2000;
let folder = null;

/** Keep what is read in a folder, null for nowhere. */
export function keepIn(where) {
  folder = where;
}

/** Answer the source without its types, each character where it was. Throws what Node throws. */
export function strippedTypes(source, url) {
  if (folder === null) return strip(source, url);
  const file = path.join(folder, `${hash("sha256", `${process.version} ${url}\n${source}`)}.js`);
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    const text = strip(source, url);
    keep(file, text);
    return text;
  }
}

function strip(source, url) {
  try {
    return module.stripTypeScriptTypes(source, { mode: "strip" });
  } catch (error) {
    if (error.code !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") throw error;
  }
  // Enums, namespaces and parameter properties are more than types.
  return module.stripTypeScriptTypes(source, { mode: "transform", sourceMap: true, sourceUrl: url });
}

function keep(file, text) {
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const kept = fs.readdirSync(folder);
    if (kept.length > MOST_KEPT) for (const name of kept) fs.rmSync(path.join(folder, name), { force: true });
    fs.writeFileSync(`${file}.${process.pid}`, text, { mode: 0o600 });
    fs.renameSync(`${file}.${process.pid}`, file);
  } catch {
    // A cache that cannot be written costs time only.
  }
}
