// TypeScript to JavaScript, by Node itself; what was read once is kept, because Node needs 30 ms to begin.
// Must not know: how modules are found.
import module from "node:module";
import path from "node:path";

const fs = module.createRequire(import.meta.url)("node:fs"); // See peer.mjs.

const MOST_KEPT = 2000;
let folder = null;

/** Keep what is read in a folder, null for nowhere. */
export function keepIn(where) {
  folder = where;
}

/** Answer the source without its types, each character where it was. Throws what Node throws. */
export function strippedTypes(source, url) {
  if (folder === null) return strip(source, url);
  const asked = `${process.version} ${url}\n${source}`;
  const file = path.join(folder, `${digest(asked)}.json`);
  try {
    const [kept, text] = JSON.parse(fs.readFileSync(file, "utf8"));
    if (kept === asked) return text;
  } catch {
    // It is not there yet, or damaged.
  }
  const text = strip(source, url);
  keep(file, JSON.stringify([asked, text]));
  return text;
}

// Only a name: what was asked stands in the file and is compared. To load `node:crypto` costs more than a file is worth.
function digest(text) {
  let [one, other] = [0xdeadbeef, 0x41c6ce57];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 2654435761);
    other = Math.imul(other ^ code, 1597334677);
  }
  return `${(one >>> 0).toString(16).padStart(8, "0")}${(other >>> 0).toString(16).padStart(8, "0")}`;
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
