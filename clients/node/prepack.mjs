// Brings what the client shares with the harness into lib/shared: virtual time, chance, what JSON can hold. There they are
// ES modules; Jest loads CommonJS, so imports and exports are respelled, and nothing else is changed.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, "..", "..");
const PEERS = "harness/job_harness/worlds/peers";
const RUNNER = "harness/job_harness/subjects/processors/typescript/runner";
export const SHARED = [`${PEERS}/clock.mjs`, `${PEERS}/chance.mjs`, `${PEERS}/replies.mjs`, `${RUNNER}/values.mjs`];

export function commonJs(source) {
  const names = [...source.matchAll(/^export (?:async )?(?:class|function|const) (\w+)/gm)].map(([, name]) => name);
  const body = source
    .replace(/^import (\w+|\{[^}]+\}) from ("node:[\w/]+");$/gm, "const $1 = require($2);")
    .replace(/^export /gm, "");
  if (/^(import|export)\b/m.test(body)) throw new Error("prepack.mjs: an import or export that it cannot respell");
  return `"use strict";\n${body}\nmodule.exports = { ${names.join(", ")} };\n`;
}

function bring() {
  const into = path.join(here, "lib", "shared");
  fs.mkdirSync(into, { recursive: true });
  for (const file of SHARED) {
    const source = fs.readFileSync(path.join(root, file), "utf8");
    // Two may pack at once: each finds every file whole.
    const whole = path.join(here, `.${path.basename(file)}.${process.pid}`);
    fs.writeFileSync(whole, commonJs(source));
    fs.renameSync(whole, path.join(into, `${path.basename(file, ".mjs")}.cjs`));
  }
  fs.copyFileSync(path.join(root, "LICENSE"), path.join(here, "LICENSE"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) bring();
