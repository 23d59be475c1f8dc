"""What a handler in TypeScript comes to: how long it may wait, and what it calls that nothing waits for.

It is followed through the functions that it calls, and the modules that these import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from tree_sitter import Node

from job_harness.review.check.facts import LongestWait, Place
from job_harness.review.check.releases import SENDS
from job_harness.review.check.typescript import (
    FUNCTIONS,
    Constant,
    Constants,
    EnvironmentRead,
    Module,
    arguments_of,
    called_name,
    callee_of,
    descend,
    first_parameter,
    function_around,
    line_of,
    pairs_of,
    text_of,
    unquoted,
)

_WAIT: Final = re.compile(r"(?i)(time_?out|deadline|max_?wait)")
_UNIT: Final = re.compile(r"(?i:_)?(?P<unit>ms|millis|milliseconds|seconds|secs|minutes|mins|hours)$", re.IGNORECASE)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FLAG: Final = re.compile(r"(?<!this)\.(\w+(?:ing|ocked|usy|rogress|light|use))\b")
"""A member of a row that says that a worker has it in hand: `row.refreshing`."""
_OF_TIME: Final = r"stale|lease|heartbeat|lock(?:ed)?_?until"
_SLEEPS: Final = frozenset({"sleep", "delay", "wait", "setTimeout", "timeout"})
_HANDS_ON: Final = frozenset({*SENDS, "publish", "add", "addBulk", "addJob", "set"})
"""Methods that hand something to a queue or a cache: a timeout there is not waited for."""
_IMPORT: Final = re.compile(rb"""(?:from|import\()\s*["']([^"'\n]+)["']""")
MOST_MODULES: Final = 400
MOST_FUNCTIONS: Final = 200
MOST_PARTS: Final = 20
"""Functions of its own file or class in which a handler is looked for what it does not wait for."""
MOST_BASES: Final = 4


class _Visit(NamedTuple):
    """A function to look into: whether it runs for each job of a batch, and whether it is handed the batch."""

    node: Node
    module: Module
    each: bool = False
    batch: bool = False


class Reach:
    """Follows a handler through the functions that it calls, and the modules that these import."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants

    def from_handler(self, handler: Node, module: Module) -> tuple[tuple[LongestWait, ...], tuple[LongestWait, ...]]:
        """Return the waits in the code that it calls, and those in what is imported only."""
        called: dict[Place, LongestWait] = {}
        used: set[str] = set()
        for inner, where, each in self._reached(handler, module):
            if inner.type == "identifier" and text_of(inner) in where.imports:
                target = self._constants.target_path(where.imports[text_of(inner)][0], where.path)
                used |= set() if target is None else {target}
            wait = self._waits(inner, where)
            if wait is not None and (wait.place not in called or each):
                called[wait.place] = replace(wait, each=each)
        return tuple(called.values()), tuple(wait for wait in self._imported(used) if wait.place not in called)

    def flags(self, handler: Node, module: Module) -> Iterator[tuple[str, Place]]:
        """List the flags of rows at which a handler gives up, and which the same file sets and clears, without a time.

        A flag in memory ends with its process: what is set as a member of an object, or of `this`,
        is none of them.
        """
        for inner, where, _ in self._reached(handler, module):
            condition, then = inner.child_by_field_name("condition"), inner.child_by_field_name("consequence")
            if inner.type != "if_statement" or condition is None or then is None:
                continue
            if not any(one.type in ("return_statement", "continue_statement") for one in (then, *then.named_children)):
                continue
            text = (where.root.text or b"").decode("utf-8", "replace")
            for name in sorted(set(_FLAG.findall(text_of(condition)))):
                sets = rf"(?<![.\w]){name}\s*[:=]\s*{{0}}\b|(?i:\bset_?{name})\w*\([^()]*\b{{0}}\b"
                whole = all(re.search(sets.format(word), text) for word in ("true", "false"))
                if whole and not re.search(rf"(?i){name}_?(at|since|until)|{_OF_TIME}", text):
                    yield name, Place(where.path, line_of(inner))

    def _reached(self, handler: Node, module: Module) -> Iterator[tuple[Node, Module, bool]]:
        """List the code that a handler comes to, and whether it does for each job of its batch."""
        waiting = [_Visit(*self._constants.node(one, module), batch=True) for one in _unwrapped(handler)]
        seen: set[tuple[str, int, bool]] = set()
        while waiting and len(seen) < MOST_FUNCTIONS:
            visit = waiting.pop()
            function = self.function(visit.node, visit.module)
            if function is None or (function[1].path, function[0].start_byte, visit.each) in seen:
                continue
            body, where = function
            seen.add((where.path, body.start_byte, visit.each))
            batch = _batch_name(body) if visit.batch else ""
            loops = list(_loops_over(batch, body))
            for inner in descend(body):
                each = visit.each or any(one.start_byte <= inner.start_byte < one.end_byte for one in loops)
                if inner.type == "call_expression":
                    callee = inner.child_by_field_name("function")
                    if callee is not None and callee.type in ("identifier", "member_expression"):
                        handed = [text_of(one) for one in arguments_of(inner)[:1]]
                        waiting.append(_Visit(callee, where, each, batch=bool(batch) and handed == [batch]))
                yield inner, where, each

    def takes_all_at_once(self, handler: Node, module: Module) -> bool:
        """Tell whether a handler awaits `Promise.all(jobs.map(...))` of its batch, and goes through it by no loop."""
        found = self.function(*self._constants.node(handler, module))
        batch = "" if found is None else _batch_name(found[0])
        if found is None or not batch or any(_loops_over(batch, found[0])):
            return False
        calls = [node for node in descend(found[0]) if node.type == "call_expression"]
        given = [arguments_of(call) for call in calls if _ALL_OF.fullmatch(called_name(call)) and _awaited(call)]
        return any(text_of(first).startswith(f"{batch}.map(") for first, *_ in filter(None, given))

    def left(self, handler: Node, module: Module, sent: Callable[[Node], str | None]) -> Iterator[tuple[str, Place]]:
        """List the statements that nothing waits for: in a handler, and in what it awaits of its own file and class.

        `sent` tells a call that hands a job to a queue.
        """
        found = self.function(handler, module)
        waiting, seen = [] if found is None else [found], set[tuple[str, int]]()
        while waiting and len(seen) < MOST_PARTS:
            body, where = waiting.pop(0)
            if (where.path, body.start_byte) in seen:
                continue
            seen.add((where.path, body.start_byte))
            for call in [node for node in descend(body) if node.type == "call_expression"]:
                if function_around(call) != body:
                    continue
                statement = call.parent if call.parent is not None else call
                if statement.type == "expression_statement":
                    written = self.leaves(call, where) or (sent(call) if where is module else None)
                    if written is not None:
                        yield written, Place(where.path, line_of(statement))
                elif _awaited(call) or _returned(call):
                    waiting += self._part(call, where)

    def _part(self, call: Node, module: Module) -> list[tuple[Node, Module]]:
        """Return the function that a call calls, where it is of the same file, or a method of the same class."""
        owner, name = callee_of(call)
        if owner is None:
            inner = module.function(name)
            return [] if inner is None else [(inner, module)]
        found = self.method(_class_around(call), name, module) if owner.type == "this" else None
        return [] if found is None else [found]

    def leaves(self, call: Node, module: Module) -> str | None:
        """Return what a call that nothing waits for calls, if that is certain to be async and to work for the job.

        One that catches all of its errors, or goes on until it is told to stop, is meant to run
        beside the job.
        """
        callee = call.child_by_field_name("function")
        if callee is None:
            return None
        arguments = arguments_of(call)
        if callee_of(call)[1] in ("forEach", "map") and len(arguments) == 1 and arguments[0].type in FUNCTIONS:
            awaits = any(
                one.type == "await_expression" and function_around(one) == arguments[0] for one in descend(arguments[0])
            )
            return f"{text_of(callee)}(async ...)" if awaits and not _runs_beside(arguments[0]) else None
        if callee.type not in ("identifier", "member_expression"):
            return None
        found = self.function(callee, module)
        return f"{text_of(callee)}()" if found is not None and not _runs_beside(found[0]) else None

    def _waits(self, node: Node, module: Module) -> LongestWait | None:
        """Return how long a piece of code may wait, where it says that."""
        if node.type == "identifier" and _WAIT.search(text_of(node)) and _UNIT.search(text_of(node)):
            return self._wait(node, module)
        if node.type == "pair":
            return self._bounded(node, module)
        return self._slept(node, module) if node.type == "call_expression" else None

    def function(self, node: Node, module: Module) -> tuple[Node, Module] | None:
        """Return the function that a node is or names, and the module that holds it."""
        if node.type in FUNCTIONS:
            return node, module
        if node.type == "call_expression" and callee_of(node)[0] is None:
            return self._find_function(callee_of(node)[1], module)
        if node.type == "member_expression":
            return self._method(node, module)
        return self._find_function(text_of(node), module) if node.type == "identifier" else None

    def _find_function(self, name: str, module: Module) -> tuple[Node, Module] | None:
        found = module.function(name)
        if found is not None:
            return found, module
        if name not in module.imports:
            return None
        specifier, there = module.imports[name]
        target = self._constants.target(specifier, module)
        inner = None if target is None else target.function(there if there != "default" else name)
        return None if target is None or inner is None else (inner, target)

    def _method(self, node: Node, module: Module) -> tuple[Node, Module] | None:
        """Find the method that `client.load` or `this.load` is: of an object, of a `new Client()`, of a module."""
        owner, key = node.child_by_field_name("object"), node.child_by_field_name("property")
        if owner is None or key is None:
            return None
        name = text_of(key)
        if owner.type == "this":
            return self.method(_class_around(node), name, module)
        if owner.type == "member_expression":
            kind = _type_of_field(_class_around(node), owner)
            found = None if kind is None else self._constants.find_constant(text_of(kind), module, at=kind)
            return None if found is None else self.method(found[0], name, found[1])
        if owner.type != "identifier":
            return None
        specifier, there = module.imports.get(text_of(owner), ("", ""))
        target = self._constants.target(specifier, module) if there == "*" else None
        if target is not None:
            inner = target.function(name)
            return None if inner is None else (inner, target)
        made, where = self._constants.node(owner, module)
        maker = made.child_by_field_name("constructor") if made.type == "new_expression" else None
        if maker is not None and maker.type == "identifier":
            found = self._constants.find_constant(text_of(maker), where, at=maker)
            return None if found is None else self.method(found[0], name, found[1])
        return _method_of(made, name, where) if made.type == "object" else None

    def method(self, owner: Node | None, name: str, module: Module, *, depth: int = 0) -> tuple[Node, Module] | None:
        """Find a method of a class, or of one that it extends."""
        found = _method_of(owner, name, module)
        if found is not None or owner is None or depth > MOST_BASES:
            return found
        base = next((one.child_by_field_name("value") for one in descend(owner) if one.type == "extends_clause"), None)
        above = None if base is None else self._constants.find_constant(text_of(base), module, at=base)
        return None if above is None else self.method(above[0], name, above[1], depth=depth + 1)

    def _wait(self, node: Node, module: Module) -> LongestWait | None:
        led_to = self._constants.find_constant(text_of(node), module, at=node)
        if led_to is None:
            return None
        seconds = _in_seconds(text_of(node), self._constants.value(*led_to))
        return (
            None if seconds is None else LongestWait(text_of(node), seconds, Place(led_to[1].path, line_of(led_to[0])))
        )

    def _slept(self, node: Node, module: Module) -> LongestWait | None:
        """Read `await sleep(60_000)`, `AbortSignal.timeout(60_000)`, and `setTimeout(done, 60_000)` in a Promise."""
        owner, name = callee_of(node)
        arguments = arguments_of(node)
        aborts = name == "timeout" and owner is not None and text_of(owner) == "AbortSignal"
        if name not in _SLEEPS or not arguments or not (aborts or _awaited(node)):
            return None
        value = arguments[-1] if name == "setTimeout" else arguments[0]
        return self._milliseconds("AbortSignal.timeout" if aborts else name, value, node, module)

    def _bounded(self, pair: Node, module: Module) -> LongestWait | None:
        """Read `{ timeout: 60_000 }` and `{ timeout: { request: 60_000 } }` among what an awaited call is given."""
        key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
        call = _call_given(pair)
        if key is None or value is None or call is None or unquoted(key) != "timeout":
            return None
        if callee_of(call)[1] in _HANDS_ON or not (_awaited(call) or _returned(call)):
            return None
        inner = next((one for name, _, one in pairs_of(value) if name == "request"), None)
        return self._milliseconds("timeout", value if inner is None else inner, pair, module)

    def _milliseconds(self, name: str, value: Node, at: Node, module: Module) -> LongestWait | None:
        told = self._constants.value(value, module)
        read = told if isinstance(told, EnvironmentRead) else None
        number = told if read is None else read.default
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            return None
        place = Place(module.path, line_of(at))
        if read is None:
            return LongestWait(name, number / 1000, place)
        return LongestWait(name, number / 1000, place, variable=read.variable, factor=read.factor / 1000)

    def _imported(self, used: set[str]) -> Iterator[LongestWait]:
        """List the waits that stand in modules from which something is used, and in what these import."""
        waiting, seen = sorted(used), set(used)
        while waiting and len(seen) < MOST_MODULES:
            path = waiting.pop(0)
            text = self._constants.text(path)
            for found in _IMPORT.findall(text):
                target = self._constants.target_path(found.decode("utf-8", "replace"), path)
                if target is not None and target not in seen:
                    seen.add(target)
                    waiting.append(target)
        for path in sorted(seen):
            if not re.search(rb"(?i)time_?out|deadline|max_?wait", self._constants.text(path)):
                continue
            module = self._constants.module(path)
            for name, node in module.constants.items() if module is not None else ():
                if _WAIT.search(name) and _UNIT.search(name):
                    seconds = _in_seconds(name, self._constants.value(node, module)) if module is not None else None
                    if seconds is not None:
                        yield LongestWait(name, seconds, Place(path, line_of(node)))


def _runs_beside(function: Node) -> bool:
    """Tell a function that waits for nothing, one that catches everything, and a loop until it is told to stop."""
    body = function.child_by_field_name("body")
    parts = [] if body is None else [child for child in body.named_children if child.type != "comment"]
    mine = {node.type for node in descend(function) if function_around(node) == function}
    return (
        not any(child.type == "async" for child in function.children)
        or "await_expression" not in mine
        or "while_statement" in mine
        or any(part.type == "try_statement" for part in parts)
    )


def _class_around(node: Node) -> Node | None:
    here = node.parent
    while here is not None and here.type not in ("class_declaration", "class", "abstract_class_declaration"):
        here = here.parent
    return here


def _type_of_field(owner: Node | None, member: Node) -> Node | None:
    """Return the type that a class gives its field `this.NAME`: where it is declared, or in the constructor."""
    whole, key = member.child_by_field_name("object"), member.child_by_field_name("property")
    if owner is None or whole is None or key is None or whole.type != "this":
        return None
    for node in descend(owner):
        if node.type not in ("required_parameter", "public_field_definition"):
            continue
        name = node.child_by_field_name("pattern") or node.child_by_field_name("name")
        given = any(child.type == "accessibility_modifier" for child in node.children) or "field" in node.type
        kind = node.child_by_field_name("type")
        if name is not None and text_of(name) == text_of(key) and given and kind is not None and kind.named_children:
            return kind.named_children[0] if kind.named_children[0].type == "type_identifier" else None
    return None


def _method_of(owner: Node | None, name: str, module: Module) -> tuple[Node, Module] | None:
    """Find a method in a class or an object literal."""
    if owner is None:
        return None
    body = owner if owner.type == "object" else owner.child_by_field_name("body")
    for child in body.named_children if body is not None else ():
        key = child.child_by_field_name("name") or child.child_by_field_name("key")
        value = child if child.type == "method_definition" else child.child_by_field_name("value")
        if key is not None and value is not None and unquoted(key) == name and value.type in FUNCTIONS:
            return value, module
    return None


def _unwrapped(handler: Node) -> list[Node]:
    """List what a handler is made of: itself, and what a call that wraps it is given."""
    return [handler, *arguments_of(handler)] if handler.type == "call_expression" else [handler]


_ALL_OF: Final = re.compile(r"Promise\.all(Settled)?")


def _batch_name(function: Node) -> str:
    """Return what a handler calls the jobs that it is handed; empty where it takes them out of the array at once."""
    first = first_parameter(function)
    return text_of(first) if first is not None and first.type == "identifier" else ""


def _loops_over(batch: str, function: Node) -> Iterator[Node]:
    """List the loops over a batch that finish one job before the next: something in them is awaited."""
    for node in descend(function) if batch else ():
        head = node.child_by_field_name("right") or node.child_by_field_name("condition")
        if node.type not in ("for_in_statement", "for_statement") or head is None:
            continue
        over = {batch, f"{batch}.entries()", f"{batch}.values()"}
        if text_of(head) in over if node.type == "for_in_statement" else f"{batch}.length" in text_of(head):
            awaits = (one for one in descend(node) if one.type == "await_expression")
            if any(function_around(one) == function for one in awaits):
                yield node


def _call_given(pair: Node) -> Node | None:
    """Return the call that is given an object with this pair as an argument."""
    whole = pair.parent
    arguments = None if whole is None else whole.parent
    call = arguments.parent if arguments is not None and arguments.type == "arguments" else None
    return call if call is not None and call.type == "call_expression" else None


def _returned(call: Node) -> bool:
    """Tell whether a function returns a call, so that its caller waits for it."""
    return call.parent is not None and call.parent.type in ("return_statement", "arrow_function")


def _awaited(node: Node) -> bool:
    here = node.parent
    while here is not None and here.type not in ("statement_block", "program"):
        if here.type == "await_expression":
            return True
        here = here.parent
    return False


def _in_seconds(name: str, value: Constant) -> float | None:
    unit = _UNIT.search(name)
    if unit is None or not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    word = unit["unit"].lower()
    return float(value) * (0.001 if word.startswith(("ms", "milli")) else _SECONDS[word[0]])
