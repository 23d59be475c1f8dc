"""Syntax trees of TypeScript, JavaScript and JSON, with lines; a file that is broken in the middle keeps its rest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

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


class Document(NamedTuple):
    """A JSON document: its outermost object, empty where there is none, and the line and reason where it breaks."""

    root: Node | None
    broken: tuple[int, str] | None

    @property
    def pairs(self) -> list[tuple[str, Node, Node]]:
        """List what the outermost object holds."""
        return [] if self.root is None else list(pairs_of(self.root))


def parse_json(text: bytes) -> Document:
    """Read a JSON document, comments allowed; what stands before and after a mistake is read too."""
    plain = text.removeprefix(b"\xef\xbb\xbf").rstrip()
    whole = parse(b"(" + plain + b"\n)")
    root = next((node for node in descend(whole) if node.type == "object"), None)
    if not whole.has_error and root is not None:
        return Document(root, None)
    try:
        json.loads(plain)
    except json.JSONDecodeError as error:
        return Document(root, (error.lineno, f"is no JSON from here on: {error.msg}"))
    except (ValueError, RecursionError) as error:
        return Document(root, (1, f"is no JSON: {type(error).__name__}"))
    return Document(root, None if root is not None else (1, "is no JSON object"))


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
