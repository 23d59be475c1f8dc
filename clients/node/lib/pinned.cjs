// A finding that is kept as a test of its own: a file with its token, which is played in the test that it belongs to. A token
// is of one body with all that its file sets up, so that test itself runs, in a process of its own, and not a copy.
// Must not know: how runs are chosen.
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { ofOtherRun } = require("./isolated.cjs");

const FOLDER = path.join("tests", "regressions");
const TAIL = 20_000;
/** Where the runner and Node colour what they print, a report of it would be unreadable. */
const PLAIN = { NO_COLOR: "1", FORCE_COLOR: undefined };

/** Write it, and return the file as a person finds it. `door` is where the test's own file imports the harness from. */
function writePin({ door, file, test, body, anomaly, token, message }) {
  const readable = `${anomaly}-${path.parse(file).name}-${test}`.replace(/[^\w.-]+/g, "-").slice(0, 80).replace(/^[-.]+|[-.]+$/g, "");
  const extension = /\.[cm]?[jt]sx?$/.exec(file)?.[0] ?? ".ts";
  const kind = /\.spec\./.test(file) ? "spec" : "test";
  const at = path.join(FOLDER, `${readable}.${kind}${extension.replace("x", "")}`);
  const where = { file: file.split(path.sep).join("/"), test, token };
  const told = [`${anomaly}: ${message}`, "It was found in this body; what is played is the test itself:", ...body.split("\n")];
  const source = [
    ...told.map((line) => `// ${line}`.trimEnd()),
    `import { pinned } from ${JSON.stringify(door)};`,
    "",
    `pinned(${JSON.stringify(anomaly)}, ${JSON.stringify(where, null, 2)});`,
    "",
  ];
  fs.mkdirSync(FOLDER, { recursive: true });
  fs.writeFileSync(at, source.join("\n"));
  return at;
}

/** Play it; throws what the runner prints where it does not pass: the finding, or that it no longer fits its test. */
async function playPin([program, ...given], variables) {
  const env = ofOtherRun({ ...variables, ...PLAIN });
  const child = spawn(program, given, { env, stdio: ["ignore", "pipe", "pipe"] });
  let told = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (told = (told + data).slice(-TAIL)));
  const code = await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject));
  if (code === 0) return;
  const shown = /(?:JobHarness|Inconclusive|Error): [\s\S]*/.exec(told)?.[0] ?? told;
  throw Object.assign(new Error(shown.trim()), { name: "Pinned", stack: `Pinned: ${shown.trim()}` });
}

module.exports = { playPin, writePin };
