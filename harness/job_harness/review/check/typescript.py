"""TypeScript, JavaScript and JSON read without running them: trees with lines, and what a constant comes to.

A file that is broken in the middle keeps its rest. What needs a run to be known is unknown.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from posixpath import dirname, join, normpath
from typing import Final, NamedTuple, TypeAlias, TypeVar

import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from job_harness.review.check.facts import UNKNOWN, Scalar

DEEPEST = 120
"""Deeper than any sane expression; what is nested deeper is left alone."""


_ESCAPE: Final = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


@cache
def parser_of(language: Callable[[], object]) -> Parser:
    """Return the parser of a grammar: `parser_of(tree_sitter_python.language)`."""
    return Parser(Language(language()))


_VALID: Final = re.compile(
    rb"(?<=[\w$])<(?:[^<>`=()]|<(?:[^<>`=()]|<[^<>`=()]*>)*>){1,600}>(?=\s*`)"
    rb"|(?<=[\w$])<\s*typeof\s+import\(\s*[\"'][^\"'\n]+[\"']\s*\)\s*>(?=\s*\()"
    rb"|\bimport\(\s*[\"'][^\"'\n]+[\"']\s*\)(?=[.\[])"
    rb"|(?<=\bexport )type(?=\s+\*)"
)
"""Valid TypeScript that the grammar does not know.

Type arguments of a tagged template, `<typeof import("x")>` of a call, members of imported types,
`export type *`.
"""
_NAMED_LIKE_A_TYPE: Final = re.compile(rb"(?<=\()(?:string|number|boolean|any|unknown|object)(?=\)\s*=>)")
"""A parameter of a type of functions that is called like a type: `(string) => void`."""
_NAMED_ABSTRACT: Final = re.compile(rb"(?<=[\s{;,])abstract(?=\??\s*:)")
"""A member that is called `abstract`, which the grammar takes for the modifier."""
_AMPERSANDS: Final = re.compile(
    rb"[>}][^<>{};=&]*(?:&(?!&)[^<>{};=&]*)+(?=</|\n[ \t]*<)"
    rb"|[>}][^<>{};=&]*\w\s+&\s+\w[^<>{};=&]*(?=\{)"
    rb"|(?<=\w=)(?:\"[^\"\n]*&[^\"\n]*\"|'[^'\n]*&[^'\n]*')"
)
"""Texts and attributes of JSX with a bare `&`, which the grammar takes for an entity."""
LONGEST_REPAIRED: Final = 300_000


def parse(text: bytes, *, jsx: bool = False) -> Node:
    """Return the root of a source file; valid forms that the grammar stumbles over are blanked out and read past."""
    parser = parser_of(tree_sitter_typescript.language_tsx if jsx else tree_sitter_typescript.language_typescript)
    root = parser.parse(text).root_node
    if not root.has_error or len(text) > LONGEST_REPAIRED:
        return root
    known = _NAMED_LIKE_A_TYPE.sub(lambda found: b"_" + found[0][1:], _VALID.sub(_blank, text))
    known = _NAMED_ABSTRACT.sub(b"_bstract", known)
    if jsx:
        known = _AMPERSANDS.sub(lambda found: found[0].replace(b"&", b"_"), known)
    return root if known == text else parser.parse(known).root_node


def _blank(found: re.Match[bytes]) -> bytes:
    """Write as many bytes on the same lines: blanks, or a name for an import."""
    if not found[0].startswith(b"import"):
        return re.sub(rb"[^\n]", b" ", found[0])
    return b"T" + re.sub(rb"[^\n]", b"_", found[0][1:])


def may_hold_jsx(path: str) -> bool:
    """Tell by its name whether a script may hold JSX: there, `<T>value` is no cast."""
    return not path.endswith((".ts", ".mts", ".cts"))


class JsonDocument(NamedTuple):
    """A JSON document: its outermost object, empty if there is none, and the line and reason where it breaks."""

    root: Node | None
    broken: tuple[int, str] | None

    @property
    def pairs(self) -> list[tuple[str, Node, Node]]:
        """List what the outermost object holds."""
        return [] if self.root is None else list(pairs_of(self.root))


_TEMPLATE: Final = re.compile(rb"\{\{\s*[#/\w.-]+|<%")


def is_template(text: bytes) -> bool:
    """Tell what a generator fills in from what is broken."""
    return _TEMPLATE.search(text) is not None


def parse_json(text: bytes) -> JsonDocument:
    """Read a JSON document, comments allowed; what stands before and after a mistake is read too."""
    plain = text.removeprefix(b"\xef\xbb\xbf").rstrip()
    whole = parse(b"(" + plain + b"\n)")
    root = next((node for node in descend(whole) if node.type == "object"), None)
    if (not whole.has_error and root is not None) or is_template(plain):
        return JsonDocument(root, None)
    try:
        json.loads(plain)
    except json.JSONDecodeError as error:
        return JsonDocument(root, (error.lineno, f"is not JSON from here on: {error.msg}"))
    except (ValueError, RecursionError) as error:
        return JsonDocument(root, (1, f"is not JSON: {type(error).__name__}"))
    return JsonDocument(root, None if root is not None else (1, "is not a JSON object"))


def line_of(node: Node) -> int:
    """Return the line of a node, counted from 1."""
    return int(node.start_point[0]) + 1


def text_of(node: Node) -> str:
    """Return the source of a node."""
    return (node.text or b"").decode("utf-8", "replace")


def descend(node: Node, *, wanted: Callable[[Node], bool] | None = None) -> Iterator[Node]:
    """List a node and all below it, in the order of the source."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if wanted is None or wanted(here):
            yield here
        waiting.extend(reversed(here.named_children))


def first_error(root: Node) -> int | None:
    """Return the line of the first thing that is no syntax; None if there is none."""
    if not root.has_error:
        return None
    waiting = [root]
    while waiting:
        here = waiting.pop()
        if here.type == "ERROR" or here.is_missing:
            return line_of(here)
        waiting.extend(child for child in reversed(here.children) if child.has_error or child.is_missing)
    return line_of(root)


def pairs_of(node: Node) -> Iterator[tuple[str, Node, Node]]:
    """List the keys of an object literal with the nodes of key and value; shorthand stands for itself."""
    for child in node.named_children:
        if child.type == "pair":
            key, value = child.child_by_field_name("key"), child.child_by_field_name("value")
            if key is not None and value is not None:
                yield unquoted(key), key, value
        elif child.type == "shorthand_property_identifier":
            yield text_of(child), child, child


def unquoted(node: Node) -> str:
    """Return the text of a key or a string without its quotes."""
    text = text_of(node)
    if len(text) >= 2 and text[0] in "\"'`" and text[-1] == text[0]:
        return _unescaped(text[1:-1])
    return text


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    number = int(found[1] or found[2] or found[3] or "0", 16)
    if found[4] is not None:
        return _ESCAPED.get(found[4], found[4])
    return chr(number) if number <= sys.maxunicode else found[0]


def callee_of(call: Node) -> tuple[Node | None, str]:
    """Return the owner and the name of what a call calls; `await a.b<T>(...)` is read as a call of `await a.b`."""
    function = call.child_by_field_name("function")
    while function is not None and function.type in TRANSPARENT and function.named_children:
        function = function.named_children[0]
    if function is None:
        return None, ""
    if function.type == "member_expression":
        name = function.child_by_field_name("property")
        return function.child_by_field_name("object"), "" if name is None else text_of(name)
    return None, text_of(function)


def arguments_of(call: Node) -> list[Node]:
    """List the arguments of a call or a `new`."""
    arguments = call.child_by_field_name("arguments")
    if arguments is None or arguments.type != "arguments":
        return []
    return [child for child in arguments.named_children if child.type != "comment"]


def first_parameter(function: Node) -> Node | None:
    """Return the pattern of a function's first parameter; None where it takes none."""
    alone = function.child_by_field_name("parameter")
    if alone is not None:
        return alone
    several = function.child_by_field_name("parameters")
    first = next((child for child in several.named_children if child.type != "comment"), None) if several else None
    return None if first is None else first.child_by_field_name("pattern") or first


def function_around(node: Node) -> Node | None:
    """Return the function that a node stands in; None at the top of a module."""
    here = node.parent
    while here is not None and here.type not in FUNCTIONS:
        here = here.parent
    return here


def _handed_from(name: str, at: Node) -> int:
    """Return where the innermost function around a place begins that has a parameter of this name; -1 for none."""
    function = function_around(at)
    while function is not None:
        given = function.child_by_field_name("parameters") or function.child_by_field_name("parameter")
        if given is not None and any(node.type in _BINDING and text_of(node) == name for node in descend(given)):
            return function.start_byte
        function = function_around(function)
    return -1


_BINDING: Final = frozenset({"identifier", "shorthand_property_identifier_pattern"})


def called_name(call: Node) -> str:
    """Return what a call calls, as it is written; empty for anything but a call."""
    function = call.child_by_field_name("function")
    return "" if function is None else text_of(function)


def enclosing_function(node: Node) -> str:
    """Return the name of the function that a node stands in; empty where it stands in none, or in one without name."""
    here = node.parent
    while here is not None:
        if here.type in ("function_declaration", "method_definition"):
            name = here.child_by_field_name("name")
            return "" if name is None else text_of(name)
        if here.type == "variable_declarator":
            name, value = here.child_by_field_name("name"), here.child_by_field_name("value")
            if name is not None and value is not None and value.type in ("arrow_function", "function_expression"):
                return text_of(name)
        here = here.parent
    return ""


INDEXED: Final = frozenset({
    "new_expression", "call_expression", "assignment_expression", "decorator", "pair", "object", "variable_declarator",
    "required_parameter", "optional_parameter", "public_field_definition", "template_string", "string",
    "binary_expression", "function_declaration", "function_expression", "arrow_function", "method_definition",
    "generator_function_declaration",
})  # fmt: skip


@dataclass(slots=True)
class Module:
    """A parsed file: its constants and what it imports, by local name."""

    path: str
    root: Node
    constants: dict[str, Node] = field(default_factory=dict)
    """What stands outside of any function, by name: `const`, enums, classes; members of enums too where no other is."""
    scoped: dict[str, list[tuple[int, int, Node]]] = field(default_factory=dict)
    """Constants inside of functions, with the bytes from and to which they hold."""
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Local name -> the specifier, the name there; `*` for all of it."""
    passes_on: list[str] = field(default_factory=list)
    """Specifiers of what it exports from elsewhere."""
    functions: dict[str, Node] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    """Nodes that readers look at, by type, in the order of the source: walking a tree anew is most of the time."""
    _calls: dict[str, list[Node]] | None = None

    @classmethod
    def of(cls, path: str, root: Node) -> Module:
        """Index a file."""
        module = cls(path, root)
        source = root.text or b""
        for node in descend(root):
            kind = node.type
            if kind in INDEXED or (kind == "identifier" and source.startswith(b"register", node.start_byte)):
                module.nodes.setdefault(kind, []).append(node)
            match kind:
                case "variable_declarator":
                    module._declare(node)
                case "import_specifier" | "import_clause" | "namespace_import":
                    module._import(node)
                case "function_declaration" | "generator_function_declaration":
                    name = node.child_by_field_name("name")
                    if name is not None:
                        module.functions.setdefault(text_of(name), node)
                case "export_statement":
                    origin = node.child_by_field_name("source")
                    if origin is not None:
                        module.passes_on.append(unquoted(origin))
                case "enum_assignment":
                    name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
                    if name is not None and value is not None:
                        module.constants.setdefault(text_of(name), value)
                case "enum_declaration" | "class_declaration" | "abstract_class_declaration":
                    name = node.child_by_field_name("name")
                    if name is not None:
                        module.constants.setdefault(text_of(name), node)
        return module

    def constant(self, name: str, at: Node | None = None) -> Node | None:
        """Find what a name stands for where it is used, the innermost of several; None for a function's parameter."""
        if at is None:
            return self.constants.get(name)
        around = [one for one in self.scoped.get(name, ()) if one[0] <= at.start_byte < one[1]]
        innermost = max(around, key=lambda one: one[0], default=(-1, -1, self.constants.get(name)))
        return None if _handed_from(name, at) > innermost[0] else innermost[2]

    def each(self, *kinds: str) -> list[Node]:
        """List the nodes of these types, in the order of the source."""
        if len(kinds) == 1:
            return self.nodes.get(kinds[0], [])
        return sorted((node for kind in kinds for node in self.nodes.get(kind, ())), key=lambda node: node.start_byte)

    def function(self, name: str) -> Node | None:
        """Find a function by the name that it is declared with, or the constant that holds it."""
        declared = self.functions.get(name)
        if declared is not None:
            return declared
        value = self.constants.get(name)
        return value if value is not None and value.type in FUNCTIONS else None

    def calls_of(self, name: str) -> list[Node]:
        """List the calls of a function or method of this name."""
        if self._calls is None:
            self._calls = {}
            for node in self.each("call_expression"):
                self._calls.setdefault(callee_of(node)[1], []).append(node)
        return self._calls.get(name, [])

    def _declare(self, node: Node) -> None:
        name, value, parent = node.child_by_field_name("name"), node.child_by_field_name("value"), node.parent
        if name is None or value is None or parent is None:
            return
        if name.type == "object_pattern":
            self._require(name, value)
            return
        if name.type != "identifier":
            return
        if value.type == "call_expression" and callee_of(value)[1] == "require" and arguments_of(value):
            self.imports.setdefault(text_of(name), (unquoted(arguments_of(value)[0]), "*"))
        kind = parent.child_by_field_name("kind")
        if parent.type != "lexical_declaration" or kind is None or text_of(kind) != "const":
            return
        block = scope_of(parent)
        if block is None:
            self.constants[text_of(name)] = value
        else:
            self.scoped.setdefault(text_of(name), []).append((block.start_byte, block.end_byte, value))

    def _require(self, pattern: Node, value: Node) -> None:
        """Read `const { A, B: C } = require("./there")`, and the same of an `await import`."""
        while value.type in TRANSPARENT and value.named_children:
            value = value.named_children[0]
        function, arguments = value.child_by_field_name("function"), arguments_of(value)
        if function is None or text_of(function) not in ("require", "import") or not arguments:
            return
        for part in pattern.named_children:
            if part.type == "shorthand_property_identifier_pattern":
                self.imports[text_of(part)] = (unquoted(arguments[0]), text_of(part))
            elif part.type == "pair_pattern":
                key, alias = part.child_by_field_name("key"), part.child_by_field_name("value")
                if key is not None and alias is not None:
                    self.imports[text_of(alias)] = (unquoted(arguments[0]), text_of(key))

    def _import(self, node: Node) -> None:
        statement: Node | None = node
        while statement is not None and statement.type != "import_statement":
            statement = statement.parent
        source = None if statement is None else statement.child_by_field_name("source")
        if source is None:
            return
        if node.type == "import_specifier":
            name, alias = node.child_by_field_name("name"), node.child_by_field_name("alias")
            if name is not None:
                self.imports[text_of(alias or name)] = (unquoted(source), text_of(name))
            return
        what = "*" if node.type == "namespace_import" else "default"
        for child in node.named_children[:1]:
            if child.type == "identifier":
                self.imports[text_of(child)] = (unquoted(source), what)


FUNCTIONS: Final = frozenset({
    "function_declaration", "function_expression", "arrow_function", "method_definition",
    "generator_function_declaration",
})  # fmt: skip


def scope_of(node: Node) -> Node | None:
    """Return the block within a function that a declaration holds in; None outside of functions."""
    block: Node | None = None
    here = node.parent
    while here is not None:
        if here.type == "statement_block" and block is None:
            block = here
        if here.type in FUNCTIONS:
            return block or here
        here = here.parent
    return None


SUFFIXES: Final = (".ts", ".tsx", ".mts", ".js", ".mjs", ".cjs", "/index.ts", "/index.js")
TRANSPARENT: Final = frozenset({
    "as_expression", "satisfies_expression", "parenthesized_expression", "non_null_expression", "await_expression",
})  # fmt: skip
LARGEST = 1e15
LONGEST = 10_000
"""Characters of a text."""


@dataclass(frozen=True, slots=True)
class EnvironmentRead:
    """`process.env.NAME`, times a factor, or `default` where it is unset."""

    variable: str
    default: Scalar = None
    factor: float = 1.0


Constant: TypeAlias = Scalar | EnvironmentRead
_Of = TypeVar("_Of", Scalar, Constant)


@dataclass(slots=True)
class Constants:
    """All modules of a repository, and what an expression in one of them comes to."""

    modules: dict[str, Module] = field(default_factory=dict)
    unread: dict[str, Callable[[], Module]] = field(default_factory=dict)
    """Files that seemed to say nothing, by path; one is parsed where another imports from it."""
    sources: Callable[[str], bytes] = lambda path: b""
    """Reads a file again."""
    packages: dict[str, list[str]] = field(default_factory=dict)
    """Packages of this repository, by name: the folders that hold them."""
    _by_name: dict[str, list[str]] | None = None
    _known: dict[tuple[str, int, int], Constant] = field(default_factory=dict)

    def add(self, module: Module) -> None:
        """Take in a module; all are taken in before anything is evaluated."""
        self.modules[module.path] = module

    def module(self, path: str) -> Module | None:
        """Return a module; one that seemed to say nothing is parsed now."""
        if path not in self.modules and path in self.unread:
            self.modules[path] = self.unread[path]()
        return self.modules.get(path)

    def text(self, path: str) -> bytes:
        """Return the source of a module without parsing it where that was not done."""
        if path in self.modules:
            return self.modules[path].root.text or b""
        return self.sources(path)

    def value(self, node: Node, module: Module, *, depth: int = 0) -> Constant:
        """Return what an expression comes to."""
        if depth > DEEPEST:
            return UNKNOWN
        if node.type in TRANSPARENT:
            inner = node.named_children
            return self.value(inner[0], module, depth=depth + 1) if inner else UNKNOWN
        evaluate = _EVALUATORS.get(node.type)
        return UNKNOWN if evaluate is None else evaluate(self, node, module, depth + 1)

    def remembered(self, node: Node, module: Module, *, depth: int) -> Constant:
        """Return what a constant comes to, evaluated once; one that needs itself is unknown."""
        key = (module.path, node.start_byte, node.end_byte)
        if key not in self._known:
            self._known[key] = UNKNOWN
            self._known[key] = self.value(node, module, depth=depth)
        return self._known[key]

    def node(self, node: Node, module: Module, *, depth: int = 0) -> tuple[Node, Module]:
        """Follow names, members and type assertions to the expression that they stand for."""
        while depth <= DEEPEST:
            depth += 1
            if node.type in TRANSPARENT and node.named_children:
                node = node.named_children[0]
                continue
            led_to = self._led_to(node, module, depth)
            if led_to is None:
                return node, module
            node, module = led_to
        return node, module

    def _led_to(self, node: Node, module: Module, depth: int) -> tuple[Node, Module] | None:
        if node.type in ("identifier", "shorthand_property_identifier"):
            return self.find_constant(text_of(node), module, at=node)
        if node.type == "call_expression":
            function = node.child_by_field_name("function")
            frozen = function is not None and text_of(function) == "Object.freeze"
            arguments = arguments_of(node)
            return (arguments[0], module) if frozen and arguments else None
        if node.type in ("member_expression", "subscript_expression"):
            return self._member(node, module, depth)
        return None

    def _member(self, node: Node, module: Module, depth: int) -> tuple[Node, Module] | None:
        owner = node.child_by_field_name("object")
        key = node.child_by_field_name("property") or node.child_by_field_name("index")
        if owner is None or key is None or text_of(owner) == "process.env":
            return None
        if node.type == "subscript_expression" and key.type != "string":
            return None
        name = unquoted(key)
        if owner.type == "identifier" and module.imports.get(text_of(owner), ("", ""))[1] == "*":
            target = self.target(module.imports[text_of(owner)][0], module)
            return None if target is None or name not in target.constants else (target.constants[name], target)
        whole, where = self.node(owner, module, depth=depth + 1)
        match whole.type:
            case "object":
                return next(((value, where) for key, _, value in pairs_of(whole) if key == name), None)
            case "call_expression":
                told = _schema_default(whole, name)
                return None if told is None else (told, where)
            case "enum_declaration" | "class_declaration" | "abstract_class_declaration":
                value = _static(whole, name)
                return None if value is None else (value, where)
        return None

    def dotted(self, text: str, module: Module) -> str | None:
        """Return the text that `"name"`, `NAME` or `Names.ONE` stands for; None where it cannot be told."""
        if text[:1] in "\"'`":
            return text[1:-1]
        head, _, member = text.partition(".")
        found = self.find_constant(head, module)
        if found is None:
            return None
        node, where = self.node(*found)
        if member:
            value = dict(_members(node)).get(member) or _static(node, member)
            return None if value is None else _as_text(self.value(value, where))
        return _as_text(self.value(node, where))

    def find_constant(self, name: str, module: Module, *, at: Node | None = None) -> tuple[Node, Module] | None:
        """Find a constant by its name: here, where it is imported from, or the only one of that name anywhere."""
        here = module.constant(name, at)
        if here is not None:
            return here, module
        if name not in module.imports or (at is not None and _handed_from(name, at) >= 0):
            return None
        specifier, there = module.imports[name]
        target = self.target(specifier, module)
        return (None if target is None else self._exported(there, target, 0)) or self._only(there)

    def _exported(self, name: str, module: Module, depth: int) -> tuple[Node, Module] | None:
        """Find a constant in a module, or in one that it passes on."""
        if name in module.constants:
            return module.constants[name], module
        for specifier in module.passes_on if depth < MOST_CALLERS else ():
            target = self.target(specifier, module)
            found = None if target is None else self._exported(name, target, depth + 1)
            if found is not None:
                return found
        return None

    def target(self, specifier: str, module: Module) -> Module | None:
        """Find the module that an import leads to; None for what is not of this repository."""
        path = self.target_path(specifier, module.path)
        return None if path is None else self.module(path)

    def target_path(self, specifier: str, path: str) -> str | None:
        """Find the file that an import leads to: a relative path, an alias for the sources, another package here."""
        for stem in self._stems(specifier, path):
            bare = stem.removesuffix(".js").removesuffix(".mjs")
            for candidate in (stem, *(bare + suffix for suffix in SUFFIXES)):
                if candidate in self.modules or candidate in self.unread:
                    return candidate
        return None

    def _stems(self, specifier: str, path: str) -> Iterator[str]:
        if specifier.startswith("."):
            yield normpath(join(dirname(path), specifier))
            return
        head, _, rest = specifier.partition("/")
        if head in ("@", "~", "#", "src"):
            for folder in _above(path):
                yield normpath(join(folder, "src", rest))
                yield normpath(join(folder, rest))
            return
        if specifier.startswith("@"):
            scope, _, rest = rest.partition("/")
            head = f"{head}/{scope}"
        for folder in self.packages.get(head, ()):
            for inner in ("src", "", "lib"):
                yield normpath(join(folder, inner, rest or "index"))

    def _only(self, name: str) -> tuple[Node, Module] | None:
        if name in ("default", "*"):
            return None
        if self._by_name is None:
            self._by_name = {}
            for path, module in self.modules.items():
                for constant in module.constants:
                    self._by_name.setdefault(constant, []).append(path)
        paths = self._by_name.get(name, [])
        if len(paths) != 1:
            return None
        module = self.modules[paths[0]]
        return module.constants[name], module

    def possible(self, node: Node, module: Module, *, depth: int = 0) -> Possible:
        """List the texts that an expression may stand for: a constant, what a loop goes over, what callers pass."""
        value = self.value(node, module)
        if isinstance(value, str):
            return Possible(frozenset({value}), whole=True)
        inner = node
        while inner.type in TRANSPARENT and inner.named_children:
            inner = inner.named_children[0]
        if inner.type == "ternary_expression":
            parts = [inner.child_by_field_name(name) for name in ("consequence", "alternative")]
            return _joined([self.possible(part, module, depth=depth + 1) for part in parts if part is not None])
        if depth > MOST_CALLERS:
            return NOTHING
        if inner.type == "identifier":
            return self._bound(text_of(inner), inner, module, depth)
        owner, key = inner.child_by_field_name("object"), inner.child_by_field_name("property")
        if inner.type == "member_expression" and owner is not None and key is not None and owner.type == "identifier":
            return self._bound(text_of(owner), owner, module, depth, member=text_of(key))
        return NOTHING

    def _bound(self, name: str, node: Node, module: Module, depth: int, *, member: str = "") -> Possible:
        """Find the loop or the function that introduces a name around its use."""
        here = node.parent
        while here is not None:
            if here.type == "for_in_statement":
                left, right = here.child_by_field_name("left"), here.child_by_field_name("right")
                if left is not None and right is not None and text_of(left) == name:
                    return self._elements(right, module, depth, member=member)
            if here.type in FUNCTIONS:
                at = _position(here, name)
                if at is not None:
                    return self._handed(here, at, module, depth, member=member)
            here = here.parent
        return NOTHING

    def _elements(self, node: Node, module: Module, depth: int, *, member: str = "") -> Possible:
        """List what a loop goes over: an array, or `Object.values` of an object or an enum; or a member of each."""
        function, arguments = node.child_by_field_name("function"), arguments_of(node)
        if function is not None and text_of(function) in ("Object.values", "Object.keys") and arguments and not member:
            whole, where = self.node(arguments[0], module)
            values = _members(whole)
            if text_of(function) == "Object.keys":
                return Possible(frozenset(key for key, _ in values), whole=bool(values))
            told = [self.value(value, where) for _, value in values]
            texts = frozenset(value for value in told if isinstance(value, str))
            return Possible(texts, whole=bool(values) and all(isinstance(value, str) for value in told))
        whole, where = self.node(node, module)
        if whole.type != "array":
            return NOTHING
        parts: list[Possible] = []
        for child in whole.named_children:
            if child.type == "spread_element" and child.named_children:
                inner = child.named_children[0]
                parts.append(self._elements(inner, where, depth + 1, member=member) if depth < 10 else NOTHING)
            elif child.type != "comment":
                parts.append(self._member_of(child, where, member, depth + 1))
        return _joined(parts)

    def _member_of(self, node: Node, module: Module, member: str, depth: int) -> Possible:
        if not member:
            return self.possible(node, module, depth=depth)
        whole, where = self.node(node, module)
        value = (
            next((value for key, _, value in pairs_of(whole) if key == member), None)
            if whole.type == "object"
            else None
        )
        return NOTHING if value is None else self.possible(value, where, depth=depth)

    def _handed(self, function: Node, at: int, module: Module, depth: int, *, member: str = "") -> Possible:
        """List what the callers of a function hand over as its parameter."""
        call = function.parent.parent if function.parent is not None else None
        if call is not None and call.type == "call_expression" and function.parent in call.children:
            owner = call.child_by_field_name("function")
            method = None if owner is None else owner.child_by_field_name("property")
            whole = None if owner is None else owner.child_by_field_name("object")
            if method is not None and whole is not None and text_of(method) in _EACH and at == 0:
                return self._elements(whole, module, depth, member=member)
            return NOTHING
        name = _called_as(function)
        if not name:
            return NOTHING
        parts = []
        for caller in list(self.modules.values()):
            for node in caller.calls_of(name):
                arguments = arguments_of(node)
                given = arguments[at] if at < len(arguments) else None
                parts.append(NOTHING if given is None else self._member_of(given, caller, member, depth + 1))
        return _joined(parts) if parts else NOTHING

    def texts(self, node: Node, module: Module, *, depth: int = 0) -> list[tuple[str, str, int]] | None:
        """List the strings of an array literal, spreads included, each with file and line; None if any is unknown."""
        whole, where = self.node(node, module)
        if whole.type != "array" or depth > 10:
            return None
        found: list[tuple[str, str, int]] = []
        complete = True
        for child in whole.named_children:
            if child.type == "comment":
                continue
            if child.type == "spread_element":
                inner = self.texts(child.named_children[0], where, depth=depth + 1) if child.named_children else None
                complete = complete and inner is not None
                found += inner or []
                continue
            value = self.value(child, where)
            if isinstance(value, str):
                found.append((value, where.path, line_of(child)))
            else:
                complete = False
        return found if complete else None


@dataclass(frozen=True, slots=True)
class Possible:
    """Texts that an expression may stand for, and whether these are all."""

    texts: frozenset[str] = frozenset()
    whole: bool = False


NOTHING: Final = Possible()
MOST_CALLERS: Final = 4
_EACH: Final = frozenset({"forEach", "map", "flatMap", "reduce", "filter"})


def _joined(parts: list[Possible]) -> Possible:
    texts = frozenset(text for part in parts for text in part.texts)
    return Possible(texts, whole=bool(parts) and all(part.whole for part in parts))


def _as_text(value: Constant) -> str | None:
    return value if isinstance(value, str) else None


def _above(path: str) -> Iterator[str]:
    """List the folder of a file and all above it, the nearest first."""
    folder = dirname(path)
    while folder:
        yield folder
        folder = dirname(folder)
    yield ""


def _members(node: Node) -> list[tuple[str, Node]]:
    """List the members of an object literal or an enum."""
    if node.type == "object":
        return [(name, value) for name, _, value in pairs_of(node)]
    if node.type != "enum_declaration":
        return []
    found = []
    for child in descend(node):
        name, value = child.child_by_field_name("name"), child.child_by_field_name("value")
        if child.type == "enum_assignment" and name is not None and value is not None:
            found.append((unquoted(name), value))
    return found


def _schema_default(node: Node, name: str) -> Node | None:
    """Find `name: z.coerce.number().default(20)` in a schema of the environment that is parsed: the default."""
    if not re.search(r"\b(z|zod|v|t)\.object\(|createEnv\(|cleanEnv\(|envsafe\(", text_of(node)[:20_000]):
        return None
    for pair in descend(node):
        if pair.type == "pair":
            key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            if key is not None and value is not None and unquoted(key) == name and value.type == "call_expression":
                owner, method = callee_of(value)
                if owner is not None and method == "default" and arguments_of(value):
                    return arguments_of(value)[0]
    return None


def _static(node: Node, name: str) -> Node | None:
    """Find the value of a member of an enum, or of a static field of a class."""
    if node.type == "enum_declaration":
        return next((value for key, value in _members(node) if key == name), None)
    body = node.child_by_field_name("body")
    for child in body.named_children if body is not None else ():
        key, value = child.child_by_field_name("name"), child.child_by_field_name("value")
        static = any(part.type == "static" for part in child.children)
        if static and key is not None and text_of(key) == name:
            return value
    return None


def _position(function: Node, name: str) -> int | None:
    """Return which parameter of a function has this name."""
    single = function.child_by_field_name("parameter")
    if single is not None:
        return 0 if text_of(single) == name else None
    parameters = function.child_by_field_name("parameters")
    listed = [] if parameters is None else [child for child in parameters.named_children if child.type != "comment"]
    for number, parameter in enumerate(listed):
        pattern = parameter.child_by_field_name("pattern") or parameter
        if text_of(pattern) == name:
            return number
    return None


def _called_as(function: Node) -> str:
    """Return the name by which a function is called; empty where it has none."""
    name = function.child_by_field_name("name")
    if name is not None:
        return text_of(name)
    declared = function.parent
    name = declared.child_by_field_name("name") if declared is not None else None
    return text_of(name) if declared is not None and declared.type == "variable_declarator" and name is not None else ""


Evaluator: TypeAlias = Callable[[Constants, Node, Module, int], Constant]


def _number(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    text = text_of(node).replace("_", "").rstrip("n")
    try:
        return _whole(float(int(text, 0) if text[:2].lower() in ("0x", "0o", "0b") else text))
    except (ValueError, OverflowError):
        return UNKNOWN


def _whole(number: float) -> Scalar:
    """Return a whole number as an int, and NaN or an infinity as unknown, so that no arithmetic meets them."""
    if not math.isfinite(number):
        return UNKNOWN
    return int(number) if number == int(number) and abs(number) < LARGEST else number


def _text(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    return unquoted(node)


def _template(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    parts: list[str] = []
    for child in node.named_children:
        if child.type != "template_substitution":
            parts.append(_unescaped(text_of(child)))
            continue
        value = constants.value(child.named_children[0], module, depth=depth) if child.named_children else UNKNOWN
        written = UNKNOWN if isinstance(value, EnvironmentRead) else _written(value)
        if not isinstance(written, str):
            return UNKNOWN
        parts.append(written)
    return "".join(parts) if sum(map(len, parts)) < LONGEST else UNKNOWN


def _written(value: Scalar) -> Scalar:
    """Return a value as a text; `null` and `undefined` are one value here, and two texts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else UNKNOWN


def _name(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    if text_of(node) == "undefined":
        return None
    found = constants.find_constant(text_of(node), module, at=node)
    return UNKNOWN if found is None else constants.remembered(*found, depth=depth)


def _member(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    owner, key = node.child_by_field_name("object"), node.child_by_field_name("property")
    if key is None:
        key = node.child_by_field_name("index")
    if owner is None or key is None:
        return UNKNOWN
    if text_of(owner).replace("?", "") in ("process.env", "import.meta.env", "Bun.env"):
        named = unquoted(key) if key.type == "property_identifier" else constants.value(key, module, depth=depth)
        return EnvironmentRead(named) if isinstance(named, str) else UNKNOWN
    led_to, where = constants.node(node, module, depth=depth)
    return UNKNOWN if led_to == node else constants.remembered(led_to, where, depth=depth)


def _unary(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    inner = node.child_by_field_name("argument")
    value = UNKNOWN if inner is None else constants.value(inner, module, depth=depth)
    sign = text_of(node)[:1]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and sign in "+-":
        return -value if sign == "-" else value
    return _converted(value, _as_number) if sign == "+" and isinstance(value, EnvironmentRead) else UNKNOWN


def _binary(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    left_node, right_node = node.child_by_field_name("left"), node.child_by_field_name("right")
    sign = node.child_by_field_name("operator")
    if left_node is None or right_node is None or sign is None:
        return UNKNOWN
    left = constants.value(left_node, module, depth=depth)
    right = constants.value(right_node, module, depth=depth)
    operator = text_of(sign)
    if operator in ("??", "||"):
        if isinstance(left, EnvironmentRead) and not isinstance(right, EnvironmentRead):
            return replace(left, default=_first(operator, left.default, right))
        return _first(operator, left, right)
    return arithmetic(operator, left, right)


def _first(operator: str, left: _Of, right: _Of) -> _Of:
    """Return the first of two that counts: for `??` one that is there, for `||` one that is not falsy either."""
    return right if left is None or (operator == "||" and left in (False, 0, "")) else left


def arithmetic(operator: str, left: Constant, right: Constant) -> Constant:
    """Compute with numbers; a variable of the environment keeps its factor."""
    if isinstance(left, EnvironmentRead) and is_number(right) and operator in ("*", "/"):
        factor = float(right) if operator == "*" else (1 / float(right) if right else math.nan)  # type: ignore[arg-type]
        inner = arithmetic(operator, left.default, right) if left.default is not None else None
        return EnvironmentRead(
            left.variable, inner if not isinstance(inner, EnvironmentRead) else UNKNOWN, left.factor * factor
        )
    if isinstance(right, EnvironmentRead) and is_number(left) and operator == "*":
        return arithmetic(operator, right, left)
    if isinstance(left, str) and operator in ("*", "/"):
        left = _parsed(left)
    if isinstance(left, str) and isinstance(right, str) and operator == "+":
        return left + right if len(left) + len(right) < LONGEST else UNKNOWN
    if not is_number(left) or not is_number(right):
        return UNKNOWN
    return _computed(operator, float(left), float(right))  # type: ignore[arg-type]


def is_number(value: object) -> bool:
    """Tell numbers from truth values."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _computed(operator: str, left: float, right: float) -> Constant:
    try:
        match operator:
            case "+":
                return _whole(left + right)
            case "-":
                return _whole(left - right)
            case "*":
                return _whole(left * right)
            case "/":
                return _whole(left / right)
            case "%":
                return _whole(math.fmod(left, right))
            case "**" if abs(right) <= 64:
                return _whole(math.pow(left, right))
            case _:
                return UNKNOWN
    except (ArithmeticError, ValueError):
        return UNKNOWN


_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER: Final = re.compile(r"[+-]?\d+")


def _parsed(text: str) -> Scalar:
    found = _NUMBER.fullmatch(text.strip())
    return UNKNOWN if found is None else _whole(float(found[0]))


def _as_integer(value: Scalar) -> Scalar:
    """Read what `parseInt` reads: the digits at the beginning of a text."""
    if isinstance(value, str):
        found = _INTEGER.match(value.strip())
        return UNKNOWN if found is None or value.strip()[:2].lower() == "0x" else _whole(float(found[0]))
    return math.trunc(value) if is_number(value) else UNKNOWN  # type: ignore[arg-type]


def _as_number(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return _parsed(value)
    return value if is_number(value) else UNKNOWN


def _converted(value: Constant, convert: Callable[[Scalar], Scalar]) -> Constant:
    """Convert a value; of a variable of the environment, its default, where it has one."""
    if isinstance(value, EnvironmentRead):
        return value if value.default is None else replace(value, default=convert(value.default))
    return convert(value)


def _call(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    function = node.child_by_field_name("function")
    arguments = arguments_of(node)
    if function is None:
        return UNKNOWN
    name = text_of(function)
    values = [constants.value(argument, module, depth=depth) for argument in arguments[:8]]
    convert = _CONVERTS.get(name) if values[1:] in ([], [10]) else None
    if convert is not None and values:
        return _converted(values[0], convert)
    if name == "Object.freeze" and values:
        return values[0]
    if name == "ms" and len(values) == 1 and isinstance(values[0], str):
        return _milliseconds(values[0])
    if name in _MATH and values and all(map(is_number, values)):
        return _whole(float(_MATH[name](*values)))
    return UNKNOWN


_CONVERTS: Final[Mapping[str, Callable[[Scalar], Scalar]]] = {
    "String": _written,
    **dict.fromkeys(("Number", "BigInt", "parseFloat", "Number.parseFloat"), _as_number),
    **dict.fromkeys(("parseInt", "Number.parseInt"), _as_integer),
}
_MATH: Final[Mapping[str, Callable[..., float]]] = {
    "Math.max": lambda *numbers: max(numbers),
    "Math.min": lambda *numbers: min(numbers),
    "Math.floor": lambda number, *_: math.floor(number),
    "Math.ceil": lambda number, *_: math.ceil(number),
    "Math.round": lambda number, *_: math.floor(number + 0.5),
    "Math.trunc": lambda number, *_: math.trunc(number),
}
_LENGTH: Final = re.compile(
    r"(?P<number>-?\d*\.?\d+) *(?:(?P<ms>milliseconds?|msecs?|ms)|(?P<s>seconds?|secs?|s)|(?P<m>minutes?|mins?|m)"
    r"|(?P<h>hours?|hrs?|h)|(?P<d>days?|d)|(?P<w>weeks?|w)|(?P<y>years?|yrs?|y))?",
    re.IGNORECASE,
)
_UNITS: Final = {
    "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_557_600_000,
}  # fmt: skip


def _milliseconds(text: str) -> Scalar:
    """Read what the widespread package `ms` reads: `10m`, `2 hours`, and milliseconds where no unit is said."""
    found = _LENGTH.fullmatch(text)
    return UNKNOWN if found is None else _whole(float(found["number"]) * _UNITS.get(found.lastgroup or "", 1))


_EVALUATORS: Final[Mapping[str, Evaluator]] = {
    "number": _number,
    "string": _text,
    "template_string": _template,
    "true": lambda constants, node, module, depth: True,
    "false": lambda constants, node, module, depth: False,
    "null": lambda constants, node, module, depth: None,
    "undefined": lambda constants, node, module, depth: None,
    "identifier": _name,
    "shorthand_property_identifier": _name,
    "member_expression": _member,
    "subscript_expression": _member,
    "unary_expression": _unary,
    "binary_expression": _binary,
    "call_expression": _call,
}
