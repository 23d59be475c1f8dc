"""Calls of pg-boss, graphile-worker and BullMQ in TypeScript: which queue, which options, which handler.

A call counts where its owner is known to be the library's: by its type, by how it was made, or by
its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from tree_sitter import Node

from job_harness.review.check.facts import (
    BULLMQ,
    FLAGGED,
    GRAPHILE,
    LEFT,
    PGBOSS,
    ROW_FIRST,
    UNCOMMITTED,
    UNKNOWN,
    Facts,
    Handling,
    Limit,
    NestStart,
    Place,
    QueueCall,
    SettingSource,
    SignalHandler,
    Value,
    is_aside,
)
from job_harness.review.check.readers.handlers import Reach
from job_harness.review.check.readers.milliseconds import (
    COUNTED_IN_SECONDS,
    no_number_of_seconds,
    written_in_milliseconds,
)
from job_harness.review.check.readers.schedules import read_graphile_crontab
from job_harness.review.check.releases import SENDS
from job_harness.review.check.settings import meaning_of
from job_harness.review.check.typescript import (
    FUNCTIONS,
    TRANSPARENT,
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

LIBRARIES: Final = {
    "pg-boss": PGBOSS,
    "bullmq": BULLMQ,
    "@nestjs/bullmq": BULLMQ,
    "graphile-worker": GRAPHILE,
    "bull": "bull",
    "@nestjs/bull": "bull",
    "bee-queue": "bee-queue",
    "agenda": "agenda",
    "@trigger.dev/sdk": "trigger.dev",
    "inngest": "inngest",
    "@temporalio/worker": "temporal",
}
"""Module specifier -> the library that a file which imports it uses."""

OPTIONS_AT: Final = {
    "createQueue": (1, SettingSource.QUEUE),
    "updateQueue": (1, SettingSource.UPDATE),
    "send": (2, SettingSource.SEND),
    "sendAfter": (2, SettingSource.SEND),
    "sendThrottled": (2, SettingSource.SEND),
    "sendDebounced": (2, SettingSource.SEND),
    "publish": (2, SettingSource.SEND),
    "work": (1, SettingSource.WORK),
    "schedule": (3, SettingSource.SEND),
    "fetch": (1, SettingSource.WORK),
    "stop": (0, SettingSource.WORK),
}
"""Method of pg-boss -> which argument holds its options, and how far they reach."""

FORWARDED: Final = frozenset({*SENDS, "publish"})
EXTENDS: Final = frozenset({"touch", "heartbeat", "extend", "extendLease"})
"""Methods that lengthen the lease of a running job; how often they are called is unknown."""

POLICIES: Final = frozenset({"short", "singleton", "stately", "exclusive", "key_strict_fifo", "exactly_once"})
_BOSS_TYPE: Final = re.compile(r"\bPgBoss\b(?!\.)")
_ADDS: Final = frozenset({"addJob", "quickAddJob"})
_RUNS: Final = frozenset({"run", "runOnce", "runMigrations", "makeWorkerUtils"})


_STOPS: Final = {
    PGBOSS: (re.compile(rb"(?i)boss"), re.compile(rb"\.stop\b")),
    BULLMQ: (re.compile(rb"(?i)worker|bullmq"), re.compile(rb"\.close\b")),
    GRAPHILE: (re.compile(rb"(?i)runner|worker"), re.compile(rb"\.stop\b")),
}
"""How a script says that it stops a library: what it speaks of, and the method, also where that is only bound."""
_HEARS_STOP: Final = re.compile(rb"SIGTERM\b|(?i:shut_?down)|close-with-grace|terminus|exit-hook")
_HEARS_INTERRUPT: Final = re.compile(rb"SIGINT\b")
_RESCUES: Final = re.compile(
    rb"(?i)reconcil|rescue|\bsweep|\breap(?:er|s|ing)?\b|re-?(?:en)?queue|outbox|orphan|\bstuck|\bstale|recover|backfill"
    rb"|\bsetInterval\([^\n]{,80}(?:=>|function)[\s\S]{,400}?\b(?:select|find\w*|query)\([\s\S]{,400}?\.(?:send|insert|add)\("
)
_SENDS_JOBS: Final = re.compile(rb"(?i)boss|enqueue")
_CLEARS: Final = re.compile(rb"(?<![.\w])(\w+(?:ing|ocked|usy|rogress|light|use))\s*[:=]\s*false\b")
_INSERTS: Final = re.compile(
    r"(?i:\binsert\s+into\b)|\b(?:prisma|db|database|knex|em|manager|\w*[rR]epo(?:sitory)?|\w*[mM]odel)\b[\w.!?]*"
    r"\.(?:create|insert|insertInto|save|upsert)\("
)
"""How a call says that it writes a row: in SQL, or by Prisma, Drizzle, Kysely, Knex and TypeORM."""
_MADE: Final = {
    "Queue": 1,
    "QueuePro": 1,
    "Worker": 2,
    "WorkerPro": 2,
    "QueueEvents": 1,
    "QueueScheduler": 1,
    "FlowProducer": 0,
}
"""Classes of BullMQ -> which argument holds their options."""
IOREDIS_RETRIES: Final = 20
_INTRODUCING: Final = ("required_parameter", "optional_parameter", "public_field_definition", "variable_declarator")


class QueueNames(NamedTuple):
    """The name of a queue where it is one, the names that it may be, and whether these are all."""

    one: str | None
    possible: frozenset[str]


def note_imports(module: Module, facts: Facts) -> None:
    """Note which libraries of queues a file imports."""
    for specifier, _ in module.imports.values():
        library = LIBRARIES.get(specifier.removesuffix("/v3"))
        if library is not None:
            facts.imported.setdefault(library, Place(module.path, 1))


def note_repairs(path: str, data: bytes, facts: Facts) -> None:
    """Note what a script seems to do about the end of a process: what it stops, clears, and takes up again."""
    facts.hears_stop |= _HEARS_STOP.search(data) is not None
    facts.hears_interrupt |= _HEARS_INTERRUPT.search(data) is not None
    facts.rescues |= _RESCUES.search(data) is not None and _SENDS_JOBS.search(data) is not None
    for flag in _CLEARS.findall(data):
        facts.cleared.setdefault(flag.decode(), set()).add(path)
    facts.stopped |= {name for name, (about, stop) in _STOPS.items() if stop.search(data) and about.search(data)}


def makers_of(modules: Mapping[str, Module]) -> frozenset[str]:
    """List the functions that answer a pg-boss, by name: their type says so, or what they make."""
    found: set[str] = set()
    for module in modules.values():
        if not any(specifier == PGBOSS for specifier, _ in module.imports.values()):
            continue
        for node in module.each(*FUNCTIONS):
            answer = node.child_by_field_name("return_type")
            name = node.child_by_field_name("name")
            if name is None and node.parent is not None and node.parent.type == "variable_declarator":
                name = node.parent.child_by_field_name("name")
            if name is not None and answer is not None and _BOSS_TYPE.search(text_of(answer)):
                found.add(text_of(name))
        for constant, value in module.constants.items():
            if value.type in ("new_expression", "call_expression") and "new PgBoss" in text_of(value)[:2000]:
                found.add(constant)
    return frozenset(found)


def queues_of(modules: Mapping[str, Module]) -> frozenset[str]:
    """List what another file may import to have a Queue of BullMQ: constants that are one, functions that make one."""
    found: set[str] = set()
    for module in modules.values():
        if not any(LIBRARIES.get(specifier) == BULLMQ for specifier, _ in module.imports.values()):
            continue
        for node in module.each("new_expression"):
            maker = node.child_by_field_name("constructor")
            if maker is not None and text_of(maker).rpartition(".")[2].removesuffix("Pro") == "Queue":
                found |= {name for name in _around(node) if module.function(name) is not None}
                found |= {name for name, value in module.constants.items() if _made_by(node, value)}
    return frozenset(found)


def _made_by(node: Node, value: Node) -> bool:
    """Tell whether a constant is what a node makes, or an object with it in."""
    plain = value.type in (*TRANSPARENT, "new_expression", "object", "array", "binary_expression")
    return plain and value.start_byte <= node.start_byte and node.end_byte <= value.end_byte


class NodeOptions:
    """Reads objects of options, with what is spread into them, set on them later, and made for them."""

    def __init__(self, module: Module, constants: Constants, seen: set[tuple[str, int]]) -> None:
        self._module = module
        self._constants = constants
        self._seen = seen
        """Objects of options that some call takes, in all files."""

    def read(self, node: Node, *, depth: int = 0) -> tuple[dict[str, Value], bool]:
        """Return what an object of options sets, with what is spread into it, and whether that is all."""
        return self._within(node, self._module, "", depth)

    def _within(self, node: Node, module: Module, prefix: str, depth: int) -> tuple[dict[str, Value], bool]:
        whole, where = self._constants.node(node, module)
        if whole.type in ("binary_expression", "ternary_expression") and depth < 8:
            parts = [child for child in whole.named_children if child.type != "comment"][-2:]
            found: dict[str, Value] = {}
            complete = True
            for part in parts:
                inner, known = self._within(part, where, prefix, depth + 1)
                found.update({name: _either(found.get(name, value), value) for name, value in inner.items()})
                complete = complete and known
            return found, complete and whole.type != "binary_expression"
        if whole.type != "object" or depth > 8:
            return {}, False
        self._seen.add((where.path, whole.start_byte))
        found, complete = self._pairs(whole, where, prefix, depth)
        if node.type == "identifier" and where is module:
            self._add(text_of(node), whole, prefix, found)
        return found, complete

    def _add(self, name: str, whole: Node, prefix: str, found: dict[str, Value]) -> None:
        """Read what is set on an object of options after it was made: `options.retryLimit = 3`."""
        home = function_around(whole)
        for node in self._module.each("assignment_expression"):
            left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
            owner = None if left is None else left.child_by_field_name("object")
            if left is None or right is None or owner is None or text_of(owner) != name:
                continue
            key = left.child_by_field_name("property") or left.child_by_field_name("index")
            if key is not None and key.type in ("property_identifier", "string") and _stands_in(node, home):
                option = prefix + unquoted(key)
                place = Place(self._module.path, line_of(left))
                constant = self._constants.value(right, self._module)
                found[option] = as_value(option, constant, place, SettingSource.SEND)

    def _pairs(self, whole: Node, where: Module, prefix: str, depth: int) -> tuple[dict[str, Value], bool]:
        found: dict[str, Value] = {}
        complete = True
        for child in whole.named_children:
            if child.type == "spread_element" and child.named_children:
                inner, known = self._within(child.named_children[0], where, prefix, depth + 1)
                found.update(inner)
                complete = complete and known
                continue
            for name, key, expression in self._one_pair(child, where):
                if name is None:
                    complete = False
                    continue
                constant = self._constants.value(expression, where)
                place = Place(where.path, line_of(key))
                found[prefix + name] = as_value(prefix + name, constant, place, SettingSource.SEND)
                if name in COUNTED_IN_SECONDS:
                    found.update(self._milliseconds(prefix + name, expression, constant, place))
                if constant is UNKNOWN:
                    if name == "jobId":
                        found.update(self._identity(expression, where, f"{prefix}{name}.", place))
                    found.update(self._redis(expression, where, f"{prefix}{name}."))
                    below, known = self._within(expression, where, f"{prefix}{name}.", depth + 1)
                    found.update(below)
                    if below and not known:
                        found[f"{prefix}{name}.unread"] = Value(
                            f"{prefix}{name}.unread", True, place, SettingSource.SEND
                        )
        return found, complete

    def _one_pair(self, child: Node, where: Module) -> Iterator[tuple[str | None, Node, Node]]:
        """List the key of one member with its nodes; None for `[KEY]` where that cannot be told."""
        if child.type == "shorthand_property_identifier":
            yield text_of(child), child, child
            return
        key, value = child.child_by_field_name("key") or child.child_by_field_name("name"), child
        if child.type == "pair":
            value = child.child_by_field_name("value") or child
        if key is None:
            return
        if key.type != "computed_property_name":
            yield unquoted(key), key, value
            return
        told = self._constants.value(key.named_children[0], where) if key.named_children else UNKNOWN
        yield told if isinstance(told, str) else None, key, value

    def _milliseconds(self, name: str, node: Node, constant: Constant, place: Place) -> dict[str, Value]:
        """Note how a number of milliseconds is written where pg-boss counts seconds."""
        written = written_in_milliseconds(node, constant)
        sure = written is not None
        if written is None and node.type == "number" and isinstance(constant, (int, float)):
            written = text_of(node) if no_number_of_seconds(constant) else None
        if written is None:
            return {}
        told = "milliseconds" if sure else "perhaps_milliseconds"
        return {f"{name}.{told}": Value(f"{name}.{told}", written, place, SettingSource.SEND)}

    def _identity(self, node: Node, module: Module, prefix: str, place: Place) -> dict[str, Value]:
        """Note what a run fills into an id, `page-${...}`, and whether each call makes another one."""
        made, where = self._constants.node(node, module)
        found: dict[str, Value] = {}
        if made.type == "template_string":
            parts = ["${...}" if one.type == "template_substitution" else text_of(one) for one in made.named_children]
            template = as_value(f"{prefix}template", "".join(parts), place, SettingSource.SEND)
            found[template.name] = template
        filled = [one for one in descend(made) if one.type == "identifier"] if made.type == "template_string" else []
        if _may_be_left_out(node):
            found[f"{prefix}optional"] = Value(f"{prefix}optional", True, place, SettingSource.SEND)
        told = [made, *(self._constants.node(one, where)[0] for one in filled)]
        if any(_UNIQUE.search(_maker_of(one)) for whole in told for one in descend(whole)):
            found[f"{prefix}unique"] = Value(f"{prefix}unique", True, place, SettingSource.SEND)
        return found

    def _redis(self, node: Node, module: Module, prefix: str) -> dict[str, Value]:
        """Read `new IORedis({ maxRetriesPerRequest: null })`: its default is 20, which a Worker refuses."""
        made, where = self._constants.node(node, module)
        maker = made.child_by_field_name("constructor") if made.type == "new_expression" else None
        if maker is None or not text_of(maker).endswith("Redis"):
            return {}
        name = f"{prefix}new.maxRetriesPerRequest"
        default = Value(name, IOREDIS_RETRIES, Place(where.path, line_of(made)), SettingSource.LIBRARY)
        found: dict[str, Value] = {name: default}
        for argument in arguments_of(made):
            options, known = self._within(argument, where, "", 1)
            if not known and not self._is_address(argument, where):
                found.pop(name, None)
            for option in ("maxRetriesPerRequest", "keyPrefix"):
                if option in options:
                    found[f"{prefix}new.{option}"] = replace(options[option], name=f"{prefix}new.{option}")
        return found

    def _is_address(self, node: Node, module: Module) -> bool:
        """Tell a URL, a host or a port of Redis, by what it is or by its name, from options."""
        whole, where = self._constants.node(node, module)
        value = self._constants.value(node, module)
        if whole.type in ("binary_expression", "ternary_expression"):
            return any(self._is_address(part, where) for part in whole.named_children[-2:])
        plain = whole.type in ("string", "template_string") or isinstance(value, (str, int, float, EnvironmentRead))
        return plain or (whole.type != "object" and _ADDRESS.search(text_of(whole)) is not None)


class NodeQueues:
    """Reads the calls of one file; all modules are in `constants` already."""

    def __init__(
        self,
        module: Module,
        constants: Constants,
        *,
        facts: Facts,
        makers: frozenset[str],
        queues: frozenset[str],
        seen: set[tuple[str, int]],
    ) -> None:
        self._module = module
        self._constants = constants
        self._facts = facts
        self._aside = is_aside(module.path)
        self._used = {LIBRARIES[one] for one, _ in module.imports.values() if one in LIBRARIES}
        self._bosses = self._typed(_BOSS_TYPE, makers)
        handed = {local for local, (_, there) in module.imports.items() if there in queues}
        self._adds = BULLMQ in self._used or bool(handed)
        """Whether it has to do with a Queue of BullMQ, its own or one of another file."""
        self._makers = queues | handed
        self._queues = self._typed(re.compile(r"\bQueue(Pro)?\b"), frozenset()) | handed if self._adds else frozenset()
        self._seen = seen
        self._options = NodeOptions(module, constants, seen)

    def read(self) -> None:
        """Read every constructor and every call."""
        for node in self._module.each("new_expression", "call_expression", "decorator"):
            if node.type == "new_expression":
                self._made(node)
            elif node.type == "call_expression" and (node.parent is None or node.parent.type != "decorator"):
                self._called(node)
            elif node.type == "decorator" and BULLMQ in self._used:
                self._decorated(node)
        if GRAPHILE in self._used:
            self._preset()
            self._tasks()

    def _typed(self, kind: re.Pattern[str], makers: frozenset[str]) -> frozenset[str]:
        """List the names that stand for an instance: by their type, by `new`, or by what a function answers."""
        found: set[str] = set()
        for node in self._module.each(*_INTRODUCING):
            name = node.child_by_field_name("pattern") or node.child_by_field_name("name")
            kept, value = node.child_by_field_name("type"), node.child_by_field_name("value")
            if name is None:
                continue
            typed = kept is not None and kind.search(text_of(kept)) is not None
            if typed or (value is not None and self._makes(value, kind, makers)):
                found.add(text_of(name).lstrip("#"))
        found |= {name for name in makers & self._module.constants.keys() if self._instance(name)}
        for local, (_, there) in self._module.imports.items():
            if there in makers or (there == "default" and local in makers):
                found.add(local)
        return frozenset(found)

    def _instance(self, name: str) -> bool:
        return self._module.constants[name].type not in FUNCTIONS and b"PgBoss" in (self._module.root.text or b"")

    def _makes(self, value: Node, kind: re.Pattern[str], makers: frozenset[str]) -> bool:
        while value.type in TRANSPARENT and value.named_children:
            value = value.named_children[0]
        if value.type == "new_expression":
            maker = value.child_by_field_name("constructor")
            return maker is not None and kind.search(text_of(maker)) is not None
        return value.type == "call_expression" and callee_of(value)[1] in makers

    def _made(self, node: Node) -> None:
        maker = node.child_by_field_name("constructor")
        name = "" if maker is None else text_of(maker).rpartition(".")[2]
        arguments = arguments_of(node)
        if name == "PgBoss":
            options, whole = self._options.read(arguments[0]) if arguments else ({}, True)
            self._take(options, SettingSource.CONSTRUCTOR, "", None)
            self._note(PGBOSS, "new PgBoss", QueueNames(None, frozenset()), options, whole, node)
        elif BULLMQ in self._used and name in _MADE:
            kind = name.removesuffix("Pro")
            names = self._names(arguments[0]) if arguments and kind != "FlowProducer" else QueueNames(None, frozenset())
            at = _MADE[name]
            options, whole = self._options.read(arguments[at]) if at < len(arguments) else ({}, True)
            if kind == "Worker" and len(arguments) > 1:
                options = {**options, **self._left(arguments[1]), **self._flagged(arguments[1])}
            self._note(BULLMQ, f"new {kind}", names, options, whole, node)

    def _called(self, node: Node) -> None:
        owner, name = callee_of(node)
        if owner is not None and self._is_boss(owner):
            self._boss(node, name)
        elif GRAPHILE in self._used and (name in _ADDS or (owner is None and name in _RUNS)):
            self._graphile(node, name)
        elif owner is not None and self._adds:
            self._bullmq(node, owner, name)
        if owner is not None and name in _NEST_STARTS and text_of(owner) == "NestFactory" and not self._aside:
            place = Place(self._module.path, line_of(node))
            self._facts.nest_starts.append(NestStart(place, _CLOSES.search(self._module.root.text or b"") is not None))
        elif name == "enableShutdownHooks":
            self._facts.nest_starts.append(NestStart(Place(self._module.path, line_of(node)), closes=True))
        if name in ("on", "once") and owner is not None and text_of(owner) == "process" and not self._aside:
            self._heard(node)

    def _is_boss(self, owner: Node) -> bool:
        while owner.type in TRANSPARENT and owner.named_children:
            owner = owner.named_children[0]
        text = text_of(owner)
        if owner.type == "call_expression":
            name = callee_of(owner)[1]
            return name in self._bosses or "boss" in name.lower()
        last = text.rpartition(".")[2].lstrip("#")
        return last in self._bosses or ("boss" in last.lower() and len(text) < 80)

    def _boss(self, node: Node, name: str) -> None:
        place = Place(self._module.path, line_of(node))
        if name in EXTENDS:
            self._facts.values.append(Value("heartbeatSeconds", UNKNOWN, place, SettingSource.WORK))
        if name == "insert":
            self._facts.forwarding |= set(_around(node))
        if name not in OPTIONS_AT:
            return
        arguments = arguments_of(node)
        if name == "stop":
            self._stop(arguments, node)
            return
        object_form = name == "send" and len(arguments) == 1
        at, source = OPTIONS_AT[name]
        if object_form:
            names, given = self._object_form(arguments[0])
        else:
            names = self._names(arguments[0]) if arguments else QueueNames(None, frozenset())
            given = arguments[at] if at < len(arguments) else None
        options, whole = self._options.read(given) if given is not None and given.type not in FUNCTIONS else ({}, True)
        if not whole and name in FORWARDED:
            self._facts.forwarding |= set(_around(node))
        if source is SettingSource.UPDATE and self._aside:
            source = SettingSource.QUEUE  # What a test updates does not outrank what production creates.
        call = place if name in SENDS or source is SettingSource.UPDATE else None
        for queue in sorted(names.possible) or [""]:
            self._take(options, source, queue, call)
        if name in SENDS and "db" not in options and whole:
            options = {**options, **self._uncommitted(node), **self._row_first(node)}
        if name == "work" and len(arguments) > 1:
            handler = arguments[-1]
            options = {**options, **self._taken(handler), **self._left(handler), **self._flagged(handler)}
        self._note(PGBOSS, name, names, options, whole, node)
        if name == "schedule" and len(arguments) > 1:
            self._cron(PGBOSS, names, arguments[1], node)
        if name == "work" and len(arguments) > 1 and names.one is not None:
            self._handling(names.one, arguments[-1], node)

    def _taken(self, handler: Node) -> dict[str, Value]:
        """Note what a handler takes of what it is handed.

        For one job: `(job) => job.data`, `({ data }) => ...`. Of an array, the first few: `([job])
        => ...`.
        """
        found = Reach(self._constants).function(handler, self._module)
        if found is None:
            return {}
        function, where = found
        first = first_parameter(function)
        if first is None:
            return {}
        if first.type == "array_pattern":
            if any(child.type == "rest_pattern" for child in first.named_children):
                return {}
            place = Place(where.path, line_of(first))
            return {"handler.takes": Value("handler.takes", len(first.named_children), place, SettingSource.WORK)}
        at = None
        if first.type == "object_pattern":
            named = [unquoted(child.child_by_field_name("key") or child) for child in first.named_children]
            at = first if set(named) & OF_A_JOB else None
        elif first.type == "identifier":
            name = text_of(first)
            at = next((node for node in descend(function) if _member_of(node, name)), None)
        if at is None:
            return {}
        place = Place(where.path, line_of(at))
        return {"handler.single": Value("handler.single", True, place, SettingSource.WORK)}

    def _left(self, handler: Node, module: Module | None = None) -> dict[str, Value]:
        """Note what a handler calls and does not wait for: async functions of this repository, and sends."""
        left: dict[str, Value] = {}
        for written, place in Reach(self._constants).left(handler, module or self._module, self._sent):
            name = f"{LEFT}{len(left)}"
            left[name] = Value(name, written, place, SettingSource.WORK)
        return left

    def _flagged(self, handler: Node) -> dict[str, Value]:
        """Note the flags of rows at which a handler gives up, and which it sets and clears itself."""
        found = enumerate(Reach(self._constants).flags(handler, self._module))
        return {f"{FLAGGED}{n}": Value(f"{FLAGGED}{n}", name, at, SettingSource.WORK) for n, (name, at) in found}

    def _row_first(self, call: Node) -> dict[str, Value]:
        """Note the row that a function writes, and then sends a job that is given its id; in no transaction of both."""
        function = function_around(call)
        if function is None or any(map(_opens_transaction, _ancestors(call))):
            return {}
        wanted = {name for one in arguments_of(call) for name in _names_in(one)}
        declared = [one for one in descend(function) if one.type == "variable_declarator"]
        for one in reversed([one for one in declared if one.end_byte <= call.start_byte]):
            name, value = one.child_by_field_name("name"), one.child_by_field_name("value")
            if name is None or value is None or wanted.isdisjoint(_names_in(name)):
                continue
            wanted |= set(_names_in(value))
            made = value.named_children[0] if value.type == "await_expression" and value.named_children else value
            if made is not value and made.type == "call_expression" and self._inserts(made):
                place = Place(self._module.path, line_of(one))
                return {ROW_FIRST: Value(ROW_FIRST, called_name(made), place, SettingSource.SEND)}
        return {}

    def _inserts(self, call: Node) -> bool:
        """Tell a call that writes a row, or calls a function of this repository that does."""
        callee = call.child_by_field_name("function")
        found = None if callee is None else Reach(self._constants).function(callee, self._module)
        return any(_INSERTS.search(text_of(one)) for one in (call, *(found or ())[:1]))

    def _uncommitted(self, call: Node) -> dict[str, Value]:
        """Note the transaction in whose callback a job is sent, and not over its connection."""
        owner = callee_of(call)[0]
        for here in _ancestors(call):
            name = callee_of(here)[1] if here.type == "call_expression" else ""
            if _AFTERWARDS.search(name):
                return {}
            if _opens_transaction(here) and any(one.type in FUNCTIONS for one in arguments_of(here)):
                local = {one for one, where in self._module.scoped.items() if any(_lies_in(here, at) for at in where)}
                mine = owner is not None and text_of(owner).partition(".")[0] in local
                said = Value("transaction", name, Place(self._module.path, line_of(here)), SettingSource.SEND)
                return {} if mine else {UNCOMMITTED: said}
        return {}

    def _sent(self, call: Node) -> str | None:
        """Return what a call calls where that hands a job to a queue, and answers a promise."""
        owner, name = callee_of(call)
        if name == "addJob" and GRAPHILE in self._used:
            return "addJob()" if owner is None else f"{text_of(owner)}.addJob()"
        if owner is None:
            return None
        last = text_of(owner).rpartition(".")[2].lstrip("#")
        on_queue = (
            self._adds and name in ("add", "addBulk") and (last in self._queues or last.lower().endswith("queue"))
        )
        return f"{text_of(owner)}.{name}()" if on_queue or (name in SENDS and self._is_boss(owner)) else None

    def _tasks(self) -> None:
        """Note what tasks of graphile-worker do not wait for: functions that take its helpers."""
        for node in self._module.each(*FUNCTIONS):
            given = node.child_by_field_name("parameters")
            second = [child for child in given.named_children if child.type != "comment"][1:2] if given else []
            left = self._left(node) if second and _HELPERS.search(text_of(second[0])) else {}
            if left:
                self._note(GRAPHILE, "task", QueueNames(None, frozenset()), left, True, node)

    def _object_form(self, node: Node) -> tuple[QueueNames, Node | None]:
        """Read `send({ name, data, options })`."""
        whole, _ = self._constants.node(node, self._module)
        parts = {key: value for key, _, value in pairs_of(whole)} if whole.type == "object" else {}
        names = self._names(parts["name"]) if "name" in parts else QueueNames(None, frozenset())
        return names, parts.get("options")

    def _stop(self, arguments: list[Node], node: Node) -> None:
        """Note how long `boss.stop()` waits: as it says, or as pg-boss does where it is called at a shutdown."""
        options, whole = self._options.read(arguments[0]) if arguments else ({}, True)
        timeout = options.get("timeout")
        if timeout is not None and isinstance(timeout.value, (int, float)):
            self._facts.limits.append(Limit("stop", timeout.value / 1000, timeout.place))
        waits = not {"timeout", "graceful", "wait"} & options.keys() and whole and not self._aside
        ends = b"SIGTERM" in (self._module.root.text or b"") or any(map(_AT_SHUTDOWN.search, _around(node)))
        if waits and ends:
            place = Place(self._module.path, line_of(node))
            self._facts.limits.append(Limit("stop", STOPS_IN_SECONDS, place, usual=True))

    def _heard(self, node: Node) -> None:
        """Note a handler of signals: of a list, as in `["SIGINT", "SIGTERM"].forEach`, the module names them all."""
        names = {found.decode() for found in _SIGNAL.findall(self._module.root.text or b"")}
        arguments = arguments_of(node)
        if names and arguments and (arguments[0].type != "string" or unquoted(arguments[0]) in names):
            place = Place(self._module.path, line_of(node))
            self._facts.signal_handlers.append(SignalHandler(place, frozenset(names)))
            if self._used:
                self._told_to_stop(arguments)

    def _told_to_stop(self, arguments: list[Node]) -> None:
        """Note after how long a handler of SIGTERM gives up: `setTimeout(() => process.exit(1), 60_000)`."""
        if len(arguments) < 2 or unquoted(arguments[0]) != "SIGTERM":
            return
        found = Reach(self._constants).function(arguments[1], self._module)
        for inner in descend(found[0]) if found is not None else ():
            given = (
                arguments_of(inner) if inner.type == "call_expression" and called_name(inner) == "setTimeout" else []
            )
            if found is not None and len(given) > 1 and "process.exit" in text_of(given[0]):
                number = self._constants.value(given[1], found[1])
                if isinstance(number, (int, float)) and not isinstance(number, bool):
                    self._facts.limits.append(Limit("stop", number / 1000, Place(found[1].path, line_of(inner))))

    def _cron(self, library: str, names: QueueNames, node: Node, call: Node) -> None:
        """Note a schedule in code as an option of a call of its own."""
        text = self._constants.value(node, self._module)
        place = Place(self._module.path, line_of(node))
        value = Value("schedule", text if isinstance(text, str) else UNKNOWN, place, SettingSource.SEND)
        self._note(library, "cron", names, {"schedule": value}, True, call)

    def _bullmq(self, node: Node, owner: Node, name: str) -> None:
        arguments = arguments_of(node)
        while owner.type in TRANSPARENT and owner.named_children:
            owner = owner.named_children[0]
        called = callee_of(owner)[1] if owner.type == "call_expression" else ""
        last = called or text_of(owner).rpartition(".")[2].lstrip("#")
        holds = called in self._makers if called else last in self._queues or last.lower().endswith("queue")
        if name in ("registerQueue", "registerQueueAsync", "forRoot", "forRootAsync") and last == "BullModule":
            for argument in arguments:
                self._nest(argument, name, node)
        elif name in ("add", "upsertJobScheduler", "addBulk") and holds:
            names = self._queue_of(owner)
            at = {"add": 2, "upsertJobScheduler": 2, "addBulk": 9}[name]
            options, whole = self._options.read(arguments[at]) if at < len(arguments) else ({}, name != "addBulk")
            if "repeat" in options and any(self._module.calls_of(one) for one in _REMOVES_SCHEDULES):
                removed = Value("repeat.removed", True, options["repeat"].place, SettingSource.SEND)
                options = {**options, removed.name: removed}
            self._note(BULLMQ, name, names, {**options, **self._uncommitted(node)}, whole, node)
            pattern = options.get("repeat.pattern", options.get("repeat.cron"))
            if pattern is not None:
                self._note(BULLMQ, "cron", names, {"schedule": pattern}, True, node)
            if name == "upsertJobScheduler" and len(arguments) > 1:
                repeated, _ = self._options.read(arguments[1])
                if "pattern" in repeated:
                    self._note(BULLMQ, "cron", names, {"schedule": repeated["pattern"]}, True, node)
        elif name in ("getJob", "getCompleted", "getJobs") and holds and _heard(node) in ("", "completed"):
            self._note(BULLMQ, name, self._queue_of(owner), {}, True, node)

    def _nest(self, argument: Node, name: str, node: Node) -> None:
        """Read what `BullModule` registers, also where a factory answers it."""
        for inner in descend(argument):
            if inner.type != "object":
                continue
            keys = {key for key, _, _ in pairs_of(inner)}
            if "defaultJobOptions" in keys or (name.startswith("registerQueue") and "name" in keys):
                options, whole = self._options.read(inner)
                parts = {key: value for key, _, value in pairs_of(inner)}
                names = self._names(parts["name"]) if "name" in parts else QueueNames(None, frozenset())
                kind = "forRoot" if name.startswith("forRoot") else "new Queue"
                self._note(BULLMQ, kind, names, options, whole, inner)

    def _queue_of(self, owner: Node) -> QueueNames:
        """Return which queue a variable stands for: what it was made with."""
        made, where = self._constants.node(owner, self._module)
        while made.type in TRANSPARENT and made.named_children:
            made = made.named_children[0]
        if made.type == "new_expression" and arguments_of(made):
            value = self._constants.value(arguments_of(made)[0], where)
            if isinstance(value, str):
                return QueueNames(value, frozenset({value}))
        last = text_of(owner).rpartition(".")[2].lstrip("#")
        found = re.search(rf"@InjectQueue\(([^()]*)\)[^;,@]*\b{re.escape(last)}\b", text_of(self._module.root))
        if found is None:
            return QueueNames(None, frozenset())
        name = self._constants.dotted(found[1].strip(), self._module)
        return QueueNames(name, frozenset({name}) if name is not None else frozenset())

    def _decorated(self, node: Node) -> None:
        call = next((child for child in node.named_children if child.type == "call_expression"), None)
        if call is None or callee_of(call)[1] != "Processor":
            return
        arguments = arguments_of(call)
        names = self._names(arguments[0]) if arguments else QueueNames(None, frozenset())
        options, whole = self._options.read(arguments[-1]) if len(arguments) > 1 else ({}, True)
        around = node.parent
        if around is not None and around.type == "export_statement":
            around = around.child_by_field_name("declaration")
        handler = Reach(self._constants).method(around, "process", self._module)
        if handler is not None:
            options = {**options, **self._left(*handler)}
        nest = Value("nest", True, Place(self._module.path, line_of(node)), SettingSource.WORK)
        self._note(BULLMQ, "new Worker", names, {**options, nest.name: nest}, whole, node)

    def _graphile(self, node: Node, name: str) -> None:
        arguments = arguments_of(node)
        if name in _ADDS:
            first = 1 if name == "quickAddJob" else 0
            names = self._names(arguments[first]) if first < len(arguments) else QueueNames(None, frozenset())
            given = arguments[first + 2] if first + 2 < len(arguments) else None
            options, whole = self._options.read(given) if given is not None else ({}, True)
            self._note(GRAPHILE, "addJob", names, options, whole, node)
            return
        options, whole = self._options.read(arguments[0]) if arguments else ({}, True)
        self._note(GRAPHILE, name, QueueNames(None, frozenset()), options, whole, node)
        crontab = options.get("crontab")
        if crontab is not None and isinstance(crontab.value, str):
            read_graphile_crontab(crontab.place, crontab.value, self._facts)

    def _preset(self) -> None:
        """Read `worker: {...}` of a preset of graphile."""
        for node in self._module.each("pair"):
            key, value = node.child_by_field_name("key"), node.child_by_field_name("value")
            if key is None or value is None or unquoted(key) != "worker" or value.type != "object":
                continue
            options, whole = self._options.read(value)
            if options:
                self._note(GRAPHILE, "preset", QueueNames(None, frozenset()), options, whole, node)

    def read_travelling(self) -> None:
        """Note objects with a `singletonKey` that no call of pg-boss was seen to take: one of the user's own does.

        All files were read before. A policy that an object names may be that of any queue whose
        options are not told.
        """
        for pair in self._module.each("pair") if b"policy" in (self._module.root.text or b"") else ():
            key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            if key is not None and value is not None and unquoted(key) == "policy" and unquoted(value) in POLICIES:
                self._note(PGBOSS, "policy", QueueNames(None, frozenset()), {}, False, pair)
        if b"singletonKey" not in (self._module.root.text or b""):
            return
        for node in self._module.each("object"):
            keyed = any(key == "singletonKey" for key, _, _ in pairs_of(node))
            if keyed and (self._module.path, node.start_byte) not in self._seen and self._about(node):
                options, whole = self._options.read(node)
                self._note(PGBOSS, "options", QueueNames(None, frozenset()), options, whole, node)

    def _about(self, node: Node) -> bool:
        """Tell options that a function hands on to a pg-boss from those of a log, a look-up, or another queue."""
        here: Node | None = node
        while here is not None:
            if here.type == "call_expression" and callee_of(here)[1] in self._facts.forwarding:
                return True
            here = here.parent
        return False

    def _names(self, node: Node) -> QueueNames:
        found = self._constants.possible(node, self._module)
        one = next(iter(found.texts)) if found.whole and len(found.texts) == 1 else None
        return QueueNames(one, found.texts)

    def _take(self, options: Mapping[str, Value], source: SettingSource, queue: str, call: Place | None) -> None:
        """Add what pg-boss is told to the settings."""
        for name, value in options.items():
            if name == "useListenNotify":
                if value.value is True:
                    self._facts.listens.append(value.place)
            elif meaning_of(name, option=True) is not None:
                self._facts.values.append(replace(value, source=source, queue=queue, call=call))

    def _note(
        self, library: str, method: str, names: QueueNames, options: Mapping[str, Value], whole: bool, node: Node
    ) -> None:
        place = Place(self._module.path, line_of(node))
        self._facts.calls.append(
            QueueCall(library, method, names.one, dict(options), place, names.possible, whole, self._aside)
        )

    def _handling(self, queue: str, handler: Node, node: Node) -> None:
        reach = Reach(self._constants)
        called, imported = reach.from_handler(handler, self._module)
        place = Place(self._module.path, line_of(node))
        self._facts.handlings.append(
            Handling(queue, place, called, imported, reach.takes_all_at_once(handler, self._module))
        )


_NAMES: Final = frozenset({"identifier", "shorthand_property_identifier", "shorthand_property_identifier_pattern"})
_NEST_STARTS: Final = frozenset({"create", "createApplicationContext", "createMicroservice"})
_CLOSES: Final = re.compile(rb"(?i:shut_?down)|SIGTERM[\s\S]{,2000}\.close\(")
"""How a file says that it closes an application when its process is told to stop, or has that done."""
_AFTERWARDS: Final = re.compile(r"(?i)commit|after|later|defer|^(then|finally|push|setTimeout|setImmediate|nextTick)$")
"""Functions that call back once a transaction has ended, or keep what they are given until then."""
STOPS_IN_SECONDS: Final = 30.0
"""How long stop() of pg-boss waits for running jobs where nothing is said; checked on 10.4.2, 11.1.2 and 12.38.0."""
_SIGNAL: Final = re.compile(rb"""["'`](SIG(?:TERM|INT|QUIT|HUP|USR1|USR2))["'`]""")
_AT_SHUTDOWN: Final = re.compile(r"(?i)shut_?down|destroy|^(stop|close)$")
"""Functions that are called when a process is to end."""
_HELPERS: Final = re.compile(r"^helpers\b|: *(Job)?Helpers\b|\b(addJob|withPgClient)\b")
"""How tasks of graphile-worker take their helpers: by name, by type, or taken apart."""
_ADDRESS: Final = re.compile(r"(?i)(url|uri|host|port)[\"'`!)\]]*$")
"""How `config.redisUrl` and `env("REDIS_PORT")` end."""


def _around(node: Node) -> Iterator[str]:
    """List the names of the functions that a call stands in, also those of members of an object."""
    for here in _ancestors(node):
        if here.type in FUNCTIONS:
            owner = here.parent
            name = here.child_by_field_name("name")
            if name is None and owner is not None:
                name = owner.child_by_field_name("key") or owner.child_by_field_name("name")
            if name is not None:
                yield unquoted(name)


def _names_in(node: Node) -> Iterator[str]:
    """List the names of variables that stand in code."""
    return (text_of(one) for one in descend(node) if one.type in _NAMES)


def _ancestors(node: Node) -> Iterator[Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _opens_transaction(call: Node) -> bool:
    """Tell `prisma.$transaction(...)`, `db.transaction(...)` and `db.transaction().execute(...)`."""
    owner, name = callee_of(call) if call.type == "call_expression" else (None, "")
    if name == "execute" and owner is not None and owner.type == "call_expression":
        owner, name = callee_of(owner)
    return owner is not None and name in ("$transaction", "transaction")


def _lies_in(call: Node, declared: tuple[int, int, Node]) -> bool:
    """Tell whether the block in which a constant holds lies in a call."""
    return call.start_byte <= declared[0] and declared[1] <= call.end_byte


_OPTIONS: Final = re.compile(r"(?i)^\w*(?:options|opts)$")


def _may_be_left_out(node: Node) -> bool:
    """Tell what a caller may leave out: `options?.id`, `options.id`, or a parameter `id?: string`."""
    owner = node.child_by_field_name("object") if node.type == "member_expression" else node
    if owner is None or owner.type not in ("identifier", "shorthand_property_identifier"):
        return False
    function = function_around(node)
    while function is not None:
        for parameter in descend(function.child_by_field_name("parameters") or owner):
            pattern = parameter.child_by_field_name("pattern")
            if pattern is not None and text_of(pattern) == text_of(owner):
                optional = parameter.type == "optional_parameter" or _OPTIONS.match(text_of(owner)) is not None
                return optional or "?." in text_of(node)
        function = function_around(function)
    return False


def _heard(node: Node) -> str:
    """Return which event the code is called at: `events.on("failed", async ({ jobId }) => ...)`; empty for none."""
    for here in _ancestors(node):
        given = arguments_of(here) if here.type == "call_expression" and callee_of(here)[1] in ("on", "once") else []
        if len(given) > 1 and given[0].type == "string" and given[1].start_byte <= node.start_byte:
            return unquoted(given[0])
    return ""


OF_A_JOB: Final = frozenset({"data", "id", "name"})
"""What a job has, and an array of jobs has not."""


def _member_of(node: Node, name: str) -> bool:
    """Tell `NAME.data` and its kin."""
    if node.type != "member_expression":
        return False
    owner, member = node.child_by_field_name("object"), node.child_by_field_name("property")
    return (
        owner is not None
        and member is not None
        and owner.type == "identifier"
        and text_of(owner) == name
        and text_of(member) in OF_A_JOB
    )


def _stands_in(node: Node, home: Node | None) -> bool:
    """Tell whether code runs where an object was made: in that function, or also at the top of the module."""
    here = function_around(node)
    while here is not None and here != home:
        here = function_around(here)
    return here == home and (home is not None or function_around(node) is None)


_UNIQUE: Final = re.compile(r"(?i)uuid|nanoid|ulid|ksuid|cuid|createid|objectid|random|^v[14-7]$|^(new )?date(\.now)?$")
"""Functions and classes of which each call gives another id, or a time."""
_REMOVES_SCHEDULES: Final = ("removeRepeatable", "removeRepeatableByKey", "removeJobScheduler", "obliterate")


def _maker_of(node: Node) -> str:
    """Return what a call calls or a `new` makes; empty for all else."""
    if node.type == "new_expression":
        maker = node.child_by_field_name("constructor")
        return "" if maker is None else f"new {text_of(maker)}"
    function = node.child_by_field_name("function") if node.type == "call_expression" else None
    return "" if function is None else text_of(function)


def _either(one: Value, other: Value) -> Value:
    """Return a value of which either may hold: unknown where they differ."""
    alike = (one.value, one.variable, one.factor) == (other.value, other.variable, other.factor)
    return other if alike else replace(other, value=UNKNOWN, variable="")


def as_value(
    name: str, constant: Constant, place: Place, source: SettingSource, *, queue: str = "", call: Place | None = None
) -> Value:
    """Make a value of what an expression comes to."""
    if isinstance(constant, EnvironmentRead):
        read = {"variable": constant.variable, "factor": constant.factor}
        return Value(name, constant.default, place, source, queue=queue, call=call, **read)  # type: ignore[arg-type]
    return Value(name, constant, place, source, queue=queue, call=call)
