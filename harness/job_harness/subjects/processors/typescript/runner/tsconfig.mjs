// Reads `paths` and `baseUrl` of the nearest tsconfig.json. Must not know: modules, stubs.
import { createRequire } from "node:module";
import path from "node:path";

const fs = createRequire(import.meta.url)("node:fs"); // See peer.mjs.

const DEEPEST = 20;

export class Paths {
  constructor() {
    this.known = new Map();
  }

  /** Where a specifier may be, as files without extension, best first. */
  candidates(specifier, folder) {
    const config = this.nearest(folder);
    if (config === null) return [];
    const patterns = Object.entries(config.paths).sort(([one], [other]) => prefix(other).length - prefix(one).length);
    for (const [pattern, targets] of patterns) {
      const star = matched(pattern, specifier);
      if (star === null) continue;
      return targets.map((target) => path.resolve(config.base, target.replace("*", () => star)));
    }
    return config.baseUrl && !specifier.startsWith(".") ? [path.resolve(config.baseUrl, specifier)] : [];
  }

  nearest(folder) {
    if (this.known.has(folder)) return this.known.get(folder);
    const file = path.join(folder, "tsconfig.json");
    const above = path.dirname(folder);
    const config = fs.existsSync(file) ? read(file, 0) : above === folder ? null : this.nearest(above);
    this.known.set(folder, config);
    return config;
  }
}

function read(file, depth) {
  const folder = path.dirname(file);
  const empty = { paths: {}, base: folder, baseUrl: null };
  if (depth > DEEPEST) return empty;
  let data;
  try {
    data = JSON.parse(plain(fs.readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error.message}`);
  }
  let config = empty;
  for (const parent of [data.extends ?? []].flat()) {
    const found = extended(parent, file);
    if (found !== null) config = { ...config, ...read(found, depth + 1) };
  }
  const options = data.compilerOptions ?? {};
  const baseUrl = options.baseUrl === undefined ? config.baseUrl : path.resolve(folder, options.baseUrl);
  if (options.paths === undefined) return { ...config, baseUrl };
  return { paths: options.paths, base: baseUrl ?? folder, baseUrl };
}

function extended(name, file) {
  if (name.startsWith(".") || path.isAbsolute(name)) {
    const wanted = path.resolve(path.dirname(file), name);
    return [wanted, `${wanted}.json`].find((candidate) => fs.existsSync(candidate)) ?? null;
  }
  const require = createRequire(file);
  for (const candidate of [name, `${name}.json`, `${name}/tsconfig.json`]) {
    try {
      return require.resolve(candidate);
    } catch {
      continue;
    }
  }
  return null;
}

/** JSON with comments and trailing commas to plain JSON. */
function plain(text) {
  const tokens = /"(?:[^"\\]|\\.)*"|\/\/[^\n]*|\/\*[^]*?\*\//g;
  const bare = text.replace(/^\ufeff/, "").replace(tokens, (token) => (token.startsWith("/") ? "" : token));
  return bare.replace(/"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])/g, (token) => (token === "," ? "" : token));
}

function prefix(pattern) {
  return pattern.split("*")[0];
}

function matched(pattern, specifier) {
  const [head, tail] = pattern.split("*");
  if (tail === undefined) return pattern === specifier ? "" : null;
  const fits = specifier.length >= head.length + tail.length && specifier.startsWith(head) && specifier.endsWith(tail);
  return fits ? specifier.slice(head.length, specifier.length - tail.length) : null;
}
