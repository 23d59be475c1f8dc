// Where in the user's own code something is done: `file.ts:function`, a name that survives an upgrade of a library and a
// new line above. Must not know: timers, messages.

const DEPTH = 30;
const FRAME = /^\s*at (?:async )?(?:(.*?) \()?((?:file:\/\/)?\/[^)?]+)(?:\?[^):]*)?:(\d+):\d+\)?$/;
const OURS = ["/job_harness/worlds/", "/job_harness/subjects/"];
const LIBRARY = "/node_modules/";
const NAME = /^(?:new )?(?:Object\.)?([\w$]+(?:\.[\w$]+)*)(?: \[as [^\]]+\])?$/;

/** The lines of the present stack, callers that await included. */
export function deepStack() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = DEPTH;
  const { stack } = new Error();
  Error.stackTraceLimit = limit;
  return stack;
}

/** The nearest named function of the user's; its file alone where nothing there has a name; "" where no file is theirs. */
export function placeOf(stack) {
  let nearest = "";
  for (const line of stack.split("\n")) {
    const [, called, url] = FRAME.exec(line) ?? [];
    if (!isTheirs(url)) continue;
    const file = fileOf(url);
    const [, name] = NAME.exec(called ?? "") ?? [];
    if (name !== undefined) return `${file}:${name}`;
    nearest ||= file;
  }
  return nearest;
}

/** The nearest line of the user's, as `file.ts:12`; "" where no file is theirs: the call came of an event. */
export function lineOf(stack) {
  for (const each of stack.split("\n")) {
    const [, , url, line] = FRAME.exec(each) ?? [];
    if (isTheirs(url)) return `${fileOf(url)}:${line}`;
  }
  return "";
}

/** The nearest line of the user's, as [path, number]; undefined where no file is theirs. */
export function lineAt(stack) {
  for (const each of stack.split("\n")) {
    const [, , url, line] = FRAME.exec(each) ?? [];
    if (isTheirs(url)) return [decodeURIComponent(url.replace(/^file:\/\//, "")), Number(line)];
  }
  return undefined;
}

function isTheirs(url) {
  return url !== undefined && !url.includes(LIBRARY) && !OURS.some((folder) => url.includes(folder));
}

function fileOf(url) {
  return decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
}
