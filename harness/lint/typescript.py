"""TypeScript, JavaScript and JSON read without running them: trees with lines, and what a constant comes to.

A file that is broken in the middle keeps its rest. What needs a run to be known is unknown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from posixpath import dirname, join, normpath
from typing import Final, NamedTuple, TypeAlias

import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from harness.lint.facts import UNKNOWN, Scalar

DEEPEST = 120
"""Deeper than any sane expression; what is nested deeper is left alone."""


_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\n": ""}


@cache
def _parser(jsx: bool) -> Parser:
    language = tree_sitter_typescript.language_tsx() if jsx else tree_sitter_typescript.language_typescript()
    return Parser(Language(language))


def parse(text: bytes, *, jsx: bool = False) -> Node:
    """Answer the root of a source file."""
    return _parser(jsx).parse(text).root_node


class JsonDocument(NamedTuple):
    """A JSON document: its outermost object, empty where there is none, and the line and reason where it breaks."""

    root: Node | None
    broken: tuple[int, str] | None

    @property
    def pairs(self) -> list[tuple[str, Node, Node]]:
        """List what the outermost object holds."""
        return [] if self.root is None else list(pairs_of(self.root))


def parse_json(text: bytes) -> JsonDocument:
    """Read a JSON document, comments allowed; what stands before and after a mistake is read too."""
    plain = text.removeprefix(b"\xef\xbb\xbf").rstrip()
    whole = parse(b"(" + plain + b"\n)")
    root = next((node for node in descend(whole) if node.type == "object"), None)
    if not whole.has_error and root is not None:
        return JsonDocument(root, None)
    try:
        json.loads(plain)
    except json.JSONDecodeError as error:
        return JsonDocument(root, (error.lineno, f"is no JSON from here on: {error.msg}"))
    except (ValueError, RecursionError) as error:
        return JsonDocument(root, (1, f"is no JSON: {type(error).__name__}"))
    return JsonDocument(root, None if root is not None else (1, "is no JSON object"))


def line_of(node: Node) -> int:
    """Answer the line of a node, counted from 1."""
    return int(node.start_point[0]) + 1


def text_of(node: Node) -> str:
    """Answer the source of a node."""
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
    """Answer the line of the first thing that is no syntax; None where there is none."""
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
    """Answer the text of a key or a string without its quotes."""
    text = text_of(node)
    if len(text) >= 2 and text[0] in "\"'`" and text[-1] == text[0]:
        inner = text[1:-1]
        return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), inner) if "\\" in inner else inner
    return text


def arguments_of(call: Node) -> list[Node]:
    """List the arguments of a call or a `new`."""
    arguments = call.child_by_field_name("arguments")
    if arguments is None or arguments.type != "arguments":
        return []
    return [child for child in arguments.named_children if child.type != "comment"]


def enclosing_function(node: Node) -> str:
    """Answer the name of the function that a node stands in; empty where it stands in none, or in one without name."""
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


@dataclass(slots=True)
class Module:
    """A parsed file: its constants and what it imports, by local name."""

    path: str
    root: Node
    constants: dict[str, Node] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Local name -> the specifier, the name there."""

    @classmethod
    def of(cls, path: str, root: Node) -> Module:
        """Index a file."""
        module = cls(path, root)
        for node in descend(root):
            if node.type == "variable_declarator":
                module._declare(node)
            elif node.type == "import_specifier":
                module._import(node)
            elif node.type == "enum_assignment":
                name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
                if name is not None and value is not None:
                    module.constants.setdefault(text_of(name), value)
        return module

    def _declare(self, node: Node) -> None:
        name, value, parent = node.child_by_field_name("name"), node.child_by_field_name("value"), node.parent
        if name is None or value is None or parent is None:
            return
        if name.type == "object_pattern":
            self._require(name, value)
            return
        if name.type != "identifier":
            return
        kind = parent.child_by_field_name("kind")
        if parent.type == "lexical_declaration" and kind is not None and text_of(kind) == "const":
            self.constants.setdefault(text_of(name), value)

    def _require(self, pattern: Node, value: Node) -> None:
        """Read `const { A, B: C } = require("./there")`."""
        function, arguments = value.child_by_field_name("function"), arguments_of(value)
        if function is None or text_of(function) != "require" or not arguments:
            return
        for part in pattern.named_children:
            if part.type == "shorthand_property_identifier_pattern":
                self.imports[text_of(part)] = (unquoted(arguments[0]), text_of(part))
            elif part.type == "pair_pattern":
                key, alias = part.child_by_field_name("key"), part.child_by_field_name("value")
                if key is not None and alias is not None:
                    self.imports[text_of(alias)] = (unquoted(arguments[0]), text_of(key))

    def _import(self, node: Node) -> None:
        name, alias = node.child_by_field_name("name"), node.child_by_field_name("alias")
        statement: Node | None = node
        while statement is not None and statement.type != "import_statement":
            statement = statement.parent
        source = None if statement is None else statement.child_by_field_name("source")
        if name is not None and source is not None:
            self.imports[text_of(alias or name)] = (unquoted(source), text_of(name))


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


@dataclass(slots=True)
class Constants:
    """All modules of a repository, and what an expression in one of them comes to."""

    modules: dict[str, Module] = field(default_factory=dict)
    unread: dict[str, Callable[[], Module]] = field(default_factory=dict)
    """Files that seemed to say nothing, by path; one is parsed where another imports from it."""
    _by_name: dict[str, list[str]] | None = None
    _known: dict[tuple[str, int, int], Constant] = field(default_factory=dict)

    def add(self, module: Module) -> None:
        """Take in a module; all are taken in before anything is evaluated."""
        self.modules[module.path] = module

    def value(self, node: Node, module: Module, *, depth: int = 0) -> Constant:
        """Answer what an expression comes to."""
        if depth > DEEPEST:
            return UNKNOWN
        if node.type in TRANSPARENT:
            inner = node.named_children
            return self.value(inner[0], module, depth=depth + 1) if inner else UNKNOWN
        evaluate = _EVALUATORS.get(node.type)
        return UNKNOWN if evaluate is None else evaluate(self, node, module, depth + 1)

    def remembered(self, node: Node, module: Module, *, depth: int) -> Constant:
        """Answer what a constant comes to, evaluated once; one that needs itself is unknown."""
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
            return self.named(text_of(node), module)
        if node.type == "call_expression":
            function = node.child_by_field_name("function")
            frozen = function is not None and text_of(function) == "Object.freeze"
            arguments = arguments_of(node)
            return (arguments[0], module) if frozen and arguments else None
        if node.type == "member_expression":
            owner, key = node.child_by_field_name("object"), node.child_by_field_name("property")
            if owner is None or key is None or text_of(owner) == "process.env":
                return None
            whole, where = self.node(owner, module, depth=depth + 1)
            if whole.type == "object":
                return next(((value, where) for name, _, value in pairs_of(whole) if name == text_of(key)), None)
            if owner.type == "identifier" and text_of(key) in module.constants:
                return self.named(text_of(key), module) if text_of(owner)[:1].isupper() else None
        return None

    def named(self, name: str, module: Module) -> tuple[Node, Module] | None:
        """Find a constant by its name: here, where it is imported from, or the only one of that name anywhere."""
        if name in module.constants:
            return module.constants[name], module
        if name not in module.imports:
            return None
        specifier, there = module.imports[name]
        target = self._target(specifier, module)
        if target is not None:
            return (target.constants[there], target) if there in target.constants else self._only(there)
        return self._only(there)

    def _target(self, specifier: str, module: Module) -> Module | None:
        if not specifier.startswith("."):
            return None
        stem = normpath(join(dirname(module.path), specifier))
        bare = stem.removesuffix(".js").removesuffix(".mjs")
        candidates = [stem, *(bare + suffix for suffix in SUFFIXES)]
        path = next((path for path in candidates if path in self.modules or path in self.unread), None)
        if path is None:
            return None
        if path not in self.modules:
            self.modules[path] = self.unread[path]()
        return self.modules[path]

    def _only(self, name: str) -> tuple[Node, Module] | None:
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


Evaluator: TypeAlias = Callable[[Constants, Node, Module, int], Constant]


def _number(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    text = text_of(node).replace("_", "").rstrip("n")
    try:
        return int(text, 0) if text[:2].lower() in ("0x", "0o", "0b") else _whole(float(text))
    except ValueError:
        return UNKNOWN


def _whole(number: float) -> int | float:
    return int(number) if math.isfinite(number) and number == int(number) and abs(number) < LARGEST else number


def _text(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    return unquoted(node)


def _template(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    parts: list[str] = []
    for child in node.named_children:
        if child.type != "template_substitution":
            parts.append(text_of(child))
            continue
        value = constants.value(child.named_children[0], module, depth=depth) if child.named_children else UNKNOWN
        if value is UNKNOWN or isinstance(value, EnvironmentRead):
            return UNKNOWN
        parts.append(str(value))
    return "".join(parts) if sum(map(len, parts)) < LONGEST else UNKNOWN


def _name(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    if text_of(node) == "undefined":
        return None
    found = constants.named(text_of(node), module)
    return UNKNOWN if found is None else constants.remembered(*found, depth=depth)


def _member(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    owner, key = node.child_by_field_name("object"), node.child_by_field_name("property")
    if key is None:
        key = node.child_by_field_name("index")
    if owner is None or key is None:
        return UNKNOWN
    if text_of(owner).replace("?", "") in ("process.env", "import.meta.env", "Bun.env"):
        return EnvironmentRead(unquoted(key))
    led_to, where = constants.node(node, module, depth=depth)
    return UNKNOWN if led_to == node else constants.remembered(led_to, where, depth=depth)


def _unary(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    inner = node.child_by_field_name("argument")
    value = UNKNOWN if inner is None else constants.value(inner, module, depth=depth)
    sign = text_of(node)[:1]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and sign in "+-":
        return -value if sign == "-" else value
    return value if sign == "+" and isinstance(value, EnvironmentRead) else UNKNOWN


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
            return replace(left, default=right)
        return right if left is None else left
    return arithmetic(operator, left, right)


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
                return _whole(left**right)
            case _:
                return UNKNOWN
    except (ArithmeticError, ValueError):
        return UNKNOWN


def _parsed(text: str) -> Scalar:
    try:
        return _whole(float(text.strip()))
    except ValueError:
        return UNKNOWN


def _as_number(value: Constant) -> Constant:
    if isinstance(value, EnvironmentRead):
        default = _parsed(value.default) if isinstance(value.default, str) else value.default
        return replace(value, default=default)
    return _parsed(value) if isinstance(value, str) else value


def _call(constants: Constants, node: Node, module: Module, depth: int) -> Constant:
    function = node.child_by_field_name("function")
    arguments = arguments_of(node)
    if function is None:
        return UNKNOWN
    name = text_of(function)
    values = [constants.value(argument, module, depth=depth) for argument in arguments[:8]]
    if name in ("Number", "parseInt", "parseFloat", "Number.parseInt", "Number.parseFloat", "BigInt") and values:
        return _as_number(values[0])
    if name in ("String", "Object.freeze") and values:
        return values[0]
    if name == "ms" and values and isinstance(values[0], str):
        return _milliseconds(values[0])
    if name in _MATH and values and all(map(is_number, values)):
        return _whole(float(_MATH[name](*values)))
    return UNKNOWN


_MATH: Final[Mapping[str, Callable[..., float]]] = {
    "Math.max": lambda *numbers: max(numbers),
    "Math.min": lambda *numbers: min(numbers),
    "Math.floor": lambda number: math.floor(number),
    "Math.ceil": lambda number: math.ceil(number),
    "Math.round": lambda number: math.floor(number + 0.5),
    "Math.trunc": lambda number: math.trunc(number),
}
_WORDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def _milliseconds(text: str) -> Scalar:
    """Read what the widespread package `ms` reads: `10m`, `2 hours`."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    word = text.strip()[len(number) :].strip()
    unit = word if word in _WORDS else word[:1]
    parsed = _parsed(number)
    if not is_number(parsed) or unit not in _WORDS:
        return UNKNOWN
    return _whole(float(parsed) * _WORDS[unit])  # type: ignore[arg-type]


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
