// How a probe in JavaScript says what it saw: one function for each rule, and one line of JSON at the end.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";

export const release = process.env.RELEASE.split(".").map(Number);
export const load = createRequire(`${process.env.PACKAGES}/package.json`);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Return what an act raises, in words; empty where it raises nothing. */
export async function raised(act) {
  try {
    await act();
    return "";
  } catch (error) {
    return String(error.message).split("\n")[0].slice(0, 90) || error.name;
  }
}

/** Wait for something, at most this long. */
export async function until(reached, ms = 20_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(20)) if (await reached()) return true;
  return reached();
}

const ALONE = `
const { createRequire } = require("node:module");
const load = createRequire(process.env.PACKAGES + "/package.json");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const die = () => process.kill(process.pid, "SIGKILL");
`;

/** Run a program in a process of its own, to its end; what it prints first is answered by a SIGTERM. */
export async function alone(program) {
  const child = spawn(process.execPath, ["-e", `${ALONE}(async () => {${program}})();`], { stdio: ["ignore", "pipe", "inherit"] });
  child.stdout.once("data", () => child.kill("SIGTERM"));
  return new Promise((ended) => child.once("exit", (code, signal) => ended(signal ?? code)));
}

/** Ask every claim, in order, and print the answers: whether it holds, and what was seen. */
export async function tell(claims) {
  const told = {};
  for (const [rule, ask] of Object.entries(claims)) {
    try {
      told[rule] = await ask();
    } catch (error) {
      told[rule] = [false, `the probe broke: ${error.stack.split("\n").slice(0, 2).join(" ")}`];
    }
  }
  process.stdout.write("\n" + JSON.stringify(told) + "\n", () => process.exit(0));
}
