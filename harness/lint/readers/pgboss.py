"""pg-boss in TypeScript: `new PgBoss({...})`, `createQueue`, `updateQueue`, `send`, `work`, `schedule`, `stop`."""

from __future__ import annotations

from typing import Final

from tree_sitter import Node

from harness.lint.constants import Constant, Constants, Reading
from harness.lint.facts import Call, Facts, Limit
from harness.lint.module import Module
from harness.lint.place import UNKNOWN, Place, Source, Value
from harness.lint.settings_names import meaning_of
from harness.lint.syntax import arguments_of, descend, line_of, pairs_of, text_of

OPTIONS_AT: Final = {
    "createQueue": (1, Source.QUEUE),
    "updateQueue": (1, Source.QUEUE),
    "send": (2, Source.SEND),
    "sendAfter": (2, Source.SEND),
    "sendThrottled": (2, Source.SEND),
    "sendDebounced": (2, Source.SEND),
    "work": (1, Source.WORK),
    "schedule": (3, Source.SEND),
    "fetch": (1, Source.WORK),
    "stop": (0, Source.WORK),
}
"""Method -> which argument holds its options, and how far they reach."""


SENDS: Final = frozenset({"send", "sendAfter", "sendThrottled", "sendDebounced", "schedule"})
EXTENDS: Final = frozenset({"touch", "heartbeat", "extend", "extendLease"})
"""Methods that lengthen the lease of a running job; how often they are called is unknown."""


def read_queue_calls(module: Module, constants: Constants, facts: Facts) -> None:
    """Read every constructor and every call of a `boss`."""
    for node in descend(module.root, wanted=lambda node: node.type in ("new_expression", "call_expression")):
        if node.type == "new_expression":
            maker = node.child_by_field_name("constructor")
            if maker is not None and text_of(maker).rpartition(".")[2] == "PgBoss":
                _constructor(node, module, constants, facts)
        else:
            _method(node, module, constants, facts)


def _constructor(node: Node, module: Module, constants: Constants, facts: Facts) -> None:
    arguments = arguments_of(node)
    names = _options(arguments[0], module, constants, Source.CONSTRUCTOR, "", facts) if arguments else ()
    facts.calls.append(Call("new PgBoss", None, names, Place(module.path, line_of(node))))


def _method(node: Node, module: Module, constants: Constants, facts: Facts) -> None:
    function = node.child_by_field_name("function")
    if function is None or function.type != "member_expression":
        return
    owner, method = function.child_by_field_name("object"), function.child_by_field_name("property")
    if owner is None or method is None or "boss" not in text_of(owner).lower():
        return
    name = text_of(method)
    if name in EXTENDS:
        place = Place(module.path, line_of(node))
        facts.values.append(Value("heartbeatSeconds", UNKNOWN, place, Source.WORK))
    if name not in OPTIONS_AT:
        return
    arguments = arguments_of(node)
    queue = constants.value(arguments[0], module) if arguments and name != "stop" else UNKNOWN
    at, source = OPTIONS_AT[name]
    options: tuple[str, ...] = ()
    place = Place(module.path, line_of(node))
    if at < len(arguments):
        told = queue if isinstance(queue, str) else ""
        call = place if name in SENDS else None
        options = _options(arguments[at], module, constants, source, told, facts, method=name, call=call)
    facts.calls.append(Call(name, queue if isinstance(queue, str) else None, options, place))


def _options(
    node: Node,
    module: Module,
    constants: Constants,
    source: Source,
    queue: str,
    facts: Facts,
    *,
    method: str = "",
    call: Place | None = None,
) -> tuple[str, ...]:
    """Add what an object of options sets; answers the names of all options in it."""
    whole, where = constants.node(node, module)
    if whole.type != "object":
        return ()
    names: list[str] = []
    for child in whole.named_children:
        if child.type == "spread_element" and child.named_children:
            inner = child.named_children[0]
            names += _options(inner, where, constants, source, queue, facts, method=method, call=call)
    for name, key, expression in pairs_of(whole):
        names.append(name)
        constant = constants.value(expression, where)
        place = Place(where.path, line_of(key))
        if method == "stop":
            if name == "timeout" and isinstance(constant, (int, float)):
                facts.limits.append(Limit("stop", constant / 1000, place))
        elif name == "useListenNotify":
            if constant is True:
                facts.listens.append(place)
        elif meaning_of(name, option=True) is not None:
            facts.values.append(as_value(name, constant, place, source, queue=queue, call=call))
    return tuple(names)


def as_value(
    name: str, constant: Constant, place: Place, source: Source, *, queue: str = "", call: Place | None = None
) -> Value:
    """Make a value of what an expression comes to."""
    if isinstance(constant, Reading):
        return Value(
            name,
            constant.default,
            place,
            source,
            queue=queue,
            variable=constant.variable,
            factor=constant.factor,
            call=call,
        )
    return Value(name, constant, place, source, queue=queue, call=call)
