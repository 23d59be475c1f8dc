// How the processor's imports are found: stubs, TypeScript without extensions, tsconfig paths; and how they are read.
// Must not know: processors, timers, the channel.
import module from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { strippedTypes } from "./stripping.mjs";
import { Paths } from "./tsconfig.mjs";

const fs = module.createRequire(import.meta.url)("node:fs"); // See peer.mjs.

const STUB = "job-harness-stub:";
const COMMONJS = "job-harness-commonjs:";
const EXTENSIONS = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs", ".json"];
const LIBRARY = `${path.sep}node_modules${path.sep}`;
// With any hook on loading, Node 22 runs an imported CommonJS file by a `require` of its own, which fails on a circle of
// files ("is not in cache", seen on 22.16 and 22.20, gone in 24).
const MISREADS_COMMONJS = Number.parseInt(process.versions.node, 10) < 24;
const TYPESCRIPT = /\.[mc]?ts$/;
const REGISTRY = /(^|\/)processor-registry(\.[mc]?[jt]s)?$/;

/** What went wrong while a module was looked for or read, said for people. */
export class ModuleProblem extends Error {
  constructor(message, { name = "ModuleProblem", hint = "" } = {}) {
    super(message);
    this.name = name;
    this.hint = hint;
  }
}

export class Modules {
  /** `stubs`: specifier -> `{ exports }`, `{ source }` or `{ file }`. `registry` stands in for a missing registry. */
  constructor({ stubs, registry }) {
    this.stubs = stubs;
    this.registry = registry;
    this.paths = new Paths();
    this.registries = new Set();
    globalThis[Symbol.for("job-harness.stub")] = (specifier) => this.exportsOf(specifier);
  }

  install() {
    module.registerHooks({
      resolve: (specifier, context, next) => this.resolve(specifier, context, next),
      load: (url, context, next) => this.load(url, context, next),
    });
  }

  // resolving -------------------------------------------------------------------------------------------------------

  resolve(specifier, context, next) {
    const parent = context.parentURL ?? "";
    if (specifier.startsWith(COMMONJS)) return { url: specifier, format: "module", shortCircuit: true };
    const stub = this.stubbed(specifier, parent);
    if (stub !== null) return stub;
    if (module.isBuiltin(specifier) || specifier.startsWith("data:")) return next(specifier, context);
    const url = this.file(specifier, parent) ?? this.aliased(specifier, parent);
    if (url !== null) {
      if (REGISTRY.test(specifier)) this.registries.add(url);
      return { url, shortCircuit: true, importAttributes: context.importAttributes };
    }
    return this.elsewhere(specifier, context, next, parent);
  }

  stubbed(specifier, parent) {
    for (const [name, stub] of Object.entries(this.stubs)) {
      const matches = name.endsWith("*") ? specifier.startsWith(name.slice(0, -1)) : name === specifier;
      if (!matches) continue;
      if (stub.file) return { url: pathToFileURL(stub.file).href, shortCircuit: true };
      return this.stubUrl(name, parent);
    }
    return null;
  }

  stubUrl(name, parent) {
    // A stub is an ES module, which `require` too may take.
    return { url: STUB + encodeURIComponent(name), format: "module", shortCircuit: true, parentURL: parent };
  }

  /** Relative and absolute paths, with or without an extension, folders with an index. */
  file(specifier, parent) {
    let wanted;
    if (specifier.startsWith("file:")) wanted = fileURLToPath(specifier);
    else if (path.isAbsolute(specifier)) wanted = specifier;
    else if (/^\.\.?(\/|$)/.test(specifier) && parent.startsWith("file:")) {
      wanted = path.resolve(path.dirname(fileURLToPath(parent)), specifier.split("?")[0]);
    } else return null;
    return existing(wanted);
  }

  aliased(specifier, parent) {
    if (!parent.startsWith("file:")) return null;
    for (const candidate of this.paths.candidates(specifier, path.dirname(fileURLToPath(parent)))) {
      const found = existing(candidate);
      if (found !== null) return found;
    }
    return null;
  }

  elsewhere(specifier, context, next, parent) {
    let first = null;
    for (const tail of ["", ...EXTENSIONS.slice(0, 4), "/index.ts", "/index.js"]) {
      try {
        return next(specifier + tail, context);
      } catch (error) {
        first ??= error;
        if (error.code !== "ERR_MODULE_NOT_FOUND" && error.code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") break;
      }
    }
    if (REGISTRY.test(specifier)) return this.stubUrl(specifier, parent);
    if (!/_NOT_FOUND|_NOT_EXPORTED|UNSUPPORTED_DIR_IMPORT/.test(first?.code ?? "")) throw first;
    const names = this.importedNames(specifier, parent);
    const exports = names.length ? names.map((name) => `"${name}": ...`).join(", ") : "...";
    throw new ModuleProblem(`cannot find ${quoted(specifier)}, imported by ${place(parent)}`, {
      name: "MissingImport",
      hint: `Give a stub: stubs={${quoted(specifier)}: {${exports}}}.`,
    });
  }

  importedNames(specifier, parent) {
    try {
      const source = stripped(fs.readFileSync(fileURLToPath(parent), "utf8"), parent);
      const found = imports(source).find((item) => item.specifier === specifier);
      return found ? found.bindings.map((binding) => binding.imported) : [];
    } catch {
      return [];
    }
  }

  // reading ---------------------------------------------------------------------------------------------------------

  load(url, context, next) {
    if (url.startsWith(STUB)) return { format: "module", shortCircuit: true, source: this.stubSource(url) };
    if (url.startsWith(COMMONJS)) return { format: "module", shortCircuit: true, source: commonJsOf(url) };
    if (!url.startsWith("file:")) return next(url, context);
    const file = fileURLToPath(url);
    if (TYPESCRIPT.test(file)) {
      const source = mapped(readable(fs.readFileSync(file, "utf8"), url));
      if (file.endsWith(".cts")) return { format: "commonjs", shortCircuit: true, source };
      return { format: "module", shortCircuit: true, source: withCommonJs(source, url) };
    }
    // Node itself reads what is required, which has no attributes, and what is imported with its type.
    const { importAttributes } = context;
    if (file.endsWith(".json") && importAttributes !== undefined && importAttributes.type !== "json") {
      return { format: "module", shortCircuit: true, source: `export default ${fs.readFileSync(file, "utf8")}` };
    }
    if (/\.[jt]sx$/.test(file)) throw new ModuleProblem(`${file}: JSX is not understood`, { hint: "Give a stub for it." });
    const found = next(url, context);
    if (!file.includes(LIBRARY)) mapped(String(found.source ?? ""));
    if (found.format === "commonjs" && MISREADS_COMMONJS && isImport(context)) return required(file);
    return found;
  }

  stubSource(url) {
    const name = decodeURIComponent(url.slice(STUB.length));
    const stub = this.stubs[name];
    if (stub?.source !== undefined) return readable(stub.source, url);
    const lines = [`const stub = globalThis[Symbol.for("job-harness.stub")](${JSON.stringify(name)});`];
    Object.keys(this.exportsOf(name)).forEach((key, index) => {
      if (key === "default") lines.push("export default stub.default;");
      else lines.push(`const e${index} = stub[${JSON.stringify(key)}];`, `export { e${index} as ${quoted(key)} };`);
    });
    return lines.join("\n");
  }

  exportsOf(name) {
    return this.stubs[name]?.exports ?? this.registry;
  }
}

function isImport({ conditions }) {
  return Array.isArray(conditions) && conditions.includes("import");
}

/** A CommonJS file as a module: required at once, since only then it is known what it exports. */
function required(file) {
  const names = Object.keys(Object(module.createRequire(file)(file))).filter((name) => name !== "default");
  const source = [
    `import module from "node:module";`,
    `const found = module.createRequire(${quoted(file)})(${quoted(file)});`,
    "export default found;",
    ...names.flatMap((name, at) => [`const e${at} = found[${quoted(name)}];`, `export { e${at} as ${quoted(name)} };`]),
  ];
  return { format: "module", shortCircuit: true, source: source.join("\n") };
}

// What a file finds that its package compiles to CommonJS, unless it declares it itself: it is read as a module here.
const FOUND = ["__dirname", "__filename", "require"];
const COMPARED = /\brequire\.main\s*===?\s*module\b/;

/** The source with an import, at its end, of what of CommonJS it takes for granted. */
function withCommonJs(source, url) {
  if (url.endsWith(".mts") || !FOUND.some((name) => source.includes(name))) return source;
  const code = withoutComments(source);
  const wanted = COMPARED.test(code) ? [...FOUND, "module"] : FOUND;
  const names = wanted.filter((name) => uses(code, name) && !declares(code, name));
  if (names.length === 0 || code.includes("import.meta") || isOfModules(path.dirname(fileURLToPath(url)))) return source;
  return `${source}\nimport { ${names.join(", ")} } from ${quoted(COMMONJS + url)};`;
}

function commonJsOf(url) {
  const file = fileURLToPath(url.slice(COMMONJS.length));
  return [
    `import { createRequire } from "node:module";`,
    `export const __filename = ${quoted(file)}, __dirname = ${quoted(path.dirname(file))};`,
    "export const require = createRequire(__filename), module = { exports: {} };",
  ].join("\n");
}

function isOfModules(folder) {
  const about = path.join(folder, "package.json");
  if (fs.existsSync(about)) return JSON.parse(fs.readFileSync(about, "utf8")).type === "module";
  return folder !== path.dirname(folder) && isOfModules(path.dirname(folder));
}

/** Let stacks show the original of code that has a source map: they cost more, so only from where there is one. */
function mapped(source) {
  if (source.includes("//# sourceMappingURL=")) process.setSourceMapsEnabled(true);
  return source;
}

function existing(wanted) {
  const candidates = [wanted, ...EXTENSIONS.map((extension) => wanted + extension)];
  if (/\.[mc]?js$/.test(wanted)) candidates.push(wanted.replace(/js$/, "ts"));
  candidates.push(...EXTENSIONS.map((extension) => path.join(wanted, `index${extension}`)));
  const found = candidates.find((candidate) => fs.statSync(candidate, { throwIfNoEntry: false })?.isFile());
  return found === undefined ? null : pathToFileURL(fs.realpathSync(found)).href;
}

/** TypeScript to JavaScript, lines and columns kept; imports that only types used are dropped, as tsc drops them. */
export function readable(source, url) {
  return withoutUnusedImports(stripped(source, url));
}

function stripped(source, url) {
  try {
    return strippedTypes(source, url);
  } catch (error) {
    throw broken(error, url);
  }
}

function broken(error, url) {
  const [, line, code] = /^[^\n]*:(\d+)\r?\n([^\n]*)\n/.exec(error.stack ?? "") ?? [];
  const where = line === undefined ? place(url) : `${place(url)}:${line}`;
  const hint = code?.trim() ? code.trim().slice(0, 100) : "Is it TypeScript?";
  return new ModuleProblem(`${where}: ${error.message}`, { name: "SyntaxError", hint });
}

// The head of a module: blanks, comments, directives, imports. What looks like an import further down is left alone.
const HEAD = /\s+|\/\/[^\n]*|\/\*[^]*?\*\/|["']use [a-z]+["'];?|import\s*["'][^"'\n]+["'][ \t]*;?|;/y;
const IMPORT = /import\s+(?!type\b)([\w$*{][^'";]*?)\s*from\s*(["'])([^"'\n]+)\2(?:\s*with\s*\{[^}]*\})?[ \t]*;?/y;

function imports(source) {
  const found = [];
  for (let at = 0; at < source.length; ) {
    HEAD.lastIndex = IMPORT.lastIndex = at;
    const match = IMPORT.exec(source);
    if (match) found.push({ start: at, text: match[0], specifier: match[3], bindings: bindingsOf(match[1]) });
    else if (!HEAD.test(source)) break;
    at = match ? IMPORT.lastIndex : HEAD.lastIndex;
  }
  return found;
}

function bindingsOf(clause) {
  const braces = clause.match(/\{([^}]*)\}/);
  const named = (braces ? braces[1].split(",") : []).map((part) => part.trim()).filter(Boolean);
  const bindings = named.map((part) => {
    const [imported, local] = part.split(/\s+as\s+/);
    return { imported, local: local ?? imported, part };
  });
  const rest = clause.replace(/\{[^}]*\}/, "").split(",").map((part) => part.trim()).filter(Boolean);
  for (const part of rest) {
    const namespace = part.match(/^\*\s+as\s+([\w$]+)$/);
    bindings.push({ imported: namespace ? "*" : "default", local: namespace ? namespace[1] : part, part });
  }
  return bindings;
}

function withoutUnusedImports(source) {
  let result = "";
  let at = 0;
  for (const found of imports(source)) {
    const end = found.start + found.text.length;
    const others = withoutComments(source.slice(0, found.start) + source.slice(end));
    const unused = found.bindings.filter(({ local }) => !uses(others, local));
    result += source.slice(at, found.start);
    at = end;
    if (unused.length === 0) result += found.text;
    else {
      const text = unused.length === found.bindings.length ? "" : without(found, unused);
      result += text + "\n".repeat(newlines(found.text) - newlines(text));
    }
  }
  return result + source.slice(at);
}

// Text in quotes and regular expressions stay, so that nothing in them is taken for a comment, nor for an end of text. A
// slash begins an expression, and does not divide, after what no value ends with.
const TEXT = /(["'])(?:\\[^]|(?!\1)[^\\\n])*\1|`(?:\\[^]|[^\\`])*`/;
const NO_VALUE = /(?<![^])|[=(,:;!&|?{}[+\-*%~^<>]|\b(?:return|typeof|case|in|of|throw|void|do|else|yield|await)/;
const EXPRESSION = /\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\//;
const COMMENT = /(?<=^|\s)\/\/[^\n]*|\/\*[^]*?\*\//;
const TEXT_OR_COMMENT = new RegExp(
  `${TEXT.source}|(?=/)(?<=(?:${NO_VALUE.source})\\s*)${EXPRESSION.source}|${COMMENT.source}`,
  "gm",
);

function withoutComments(source) {
  return source.replace(TEXT_OR_COMMENT, (text) => (/^\/[/*]/.test(text) ? "" : text));
}

function without(found, unused) {
  const kept = found.bindings.filter((binding) => !unused.includes(binding));
  const braced = kept.filter(({ imported }) => imported !== "default" && imported !== "*").map(({ part }) => part);
  const bare = kept.filter(({ imported }) => imported === "default" || imported === "*").map(({ part }) => part);
  const clause = [...bare, ...(braced.length ? [`{ ${braced.join(", ")} }`] : [])].join(", ");
  return `import ${clause} from ${JSON.stringify(found.specifier)};`;
}

function uses(source, name) {
  return new RegExp(`(?<![\\w$])${name.replace(/\$/g, "\\$")}(?![\\w$])`).test(source);
}

function declares(source, name) {
  const braced = "(?:const|let|var|import)\\s*\\{[^}]*[\\s{,:]";
  return new RegExp(`\\b(?:(?:const|let|var|function|class|import|as)\\s+|${braced})${name}(?![\\w$])`).test(source);
}

function newlines(text) {
  return text.split("\n").length - 1;
}

function place(url) {
  return url.startsWith("file:") ? fileURLToPath(url) : url || "the harness";
}

function quoted(text) {
  return JSON.stringify(text);
}
