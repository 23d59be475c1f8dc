"""TypeScript and JavaScript: constants, calls of queues, slugs and registrations, routes, bearer comparisons."""

from __future__ import annotations

import re
from typing import Final

from tree_sitter import Node

from job_harness.review.check.facts import (
    UNKNOWN,
    Door,
    Facts,
    Limit,
    Place,
    Route,
    Scalar,
    Seed,
    SettingSource,
    Slug,
    Value,
)
from job_harness.review.check.readers.node_queues import as_value
from job_harness.review.check.readers.pm2 import is_ecosystem, read_ecosystem
from job_harness.review.check.readers.schema import interval_seconds
from job_harness.review.check.settings import GROUPS, meaning_of
from job_harness.review.check.typescript import (
    Constants,
    EnvironmentRead,
    Module,
    arguments_of,
    descend,
    enclosing_function,
    line_of,
    pairs_of,
    text_of,
    unquoted,
)

WORTH_PARSING: Final = (
    b"boss", b"Boss", b"BOSS", b"bullmq", b'bull"', b"bull'", b"graphile", b"bee-queue", b'"agenda"', b"singletonKey",
    b"@trigger.dev/sdk", b"inngest", b"@temporalio/worker",
    b"addJob", b"JOB_", b"STUCK_", b"RETRY_CONFIG", b"WORKER_CONFIG", b"TOOL_SLUGS", b"Processor", b"toolJob",
    b"LISTEN ", b"useListenNotify", b"maxDuration", b"Bearer ", b"CRON_SECRET", b"/api/cron",
    b"NestFactory", b"enableShutdownHooks", b"SIGINT", b"SIGTERM",
)  # fmt: skip
"""Whatever else a repository holds has nothing to say here, and is not parsed."""

ROUTE_FILE: Final = re.compile(r"(?:^|/)app/(?P<path>(?:.*/)?)route\.[cm]?[jt]sx?$")
PAGES_FILE: Final = re.compile(r"(?:^|/)pages/(?P<path>api/.*?)(?:/index)?\.[cm]?[jt]sx?$")
NAMED: Final = ("USE_PGBOSS_WORKERS", "CRON_SECRET")
"""Variables whose absence matters only where some source reads them."""
COMPARISONS: Final = ("===", "==", "!==", "!=")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LISTEN: Final = re.compile(r"^\s*LISTEN\s+[\"\w$]", re.IGNORECASE)
_SECRET: Final = re.compile(r"^process\.env\.\w*SECRET!?$")
_MAY_BE_UNDEFINED: Final = re.compile(r"\?\.|\[1\]|\.at\(|\.headers\.\w+$|\.headers\[")
_CRON_PATH: Final = re.compile(r"^/api/[\w\-/]+$")


def route_path(path: str) -> str | None:
    """Return the path that a file of Next.js answers; None for other files. Groups in parentheses are no part of it."""
    if "/route." not in path and "pages/" not in path:
        return None
    found = ROUTE_FILE.search(path)
    if found is not None:
        parts = [part for part in found["path"].split("/") if part and not part.startswith(("(", "@"))]
        return "/" + "/".join(parts)
    found = PAGES_FILE.search(path)
    return None if found is None else "/" + found["path"]


_LOOKED_AT: Final = (
    "variable_declarator", "pair", "call_expression", "template_string", "identifier", "binary_expression", "string",
)  # fmt: skip


def read_script(module: Module, constants: Constants, facts: Facts) -> None:
    """Read one file; all modules are in `constants` already."""
    route = route_path(module.path)
    if route is not None:
        facts.routes.append(_route(route, module))
    if is_ecosystem(module.path):
        read_ecosystem(module, constants, facts)
    source = text_of(module.root)
    for word in NAMED:
        if word in source:
            facts.named.setdefault(word, Place(module.path, 1))
    for node in module.each(*_LOOKED_AT):
        match node.type:
            case "variable_declarator":
                _declaration(node, module, constants, facts)
            case "pair":
                _pair(node, module, constants, facts)
            case "call_expression":
                _call(node, module, constants, facts)
            case "template_string":
                _bearer(node, module, facts)
                _listen(node, module, facts)
            case "identifier":
                _mention(node, facts)
            case "binary_expression":
                _comparison(node, module, facts)
            case "string":
                _listen(node, module, facts)
                text = unquoted(node)
                if _CRON_PATH.match(text):
                    facts.mentions.setdefault(text, Place(module.path, line_of(node)))


def _declaration(node: Node, module: Module, constants: Constants, facts: Facts) -> None:
    name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
    if name is None or value is None or name.type != "identifier":
        return
    place = Place(module.path, line_of(name))
    if text_of(name) == "TOOL_SLUGS":
        slugs = constants.texts(value, module)
        if slugs is None:
            facts.open_lists.append(place)
        else:
            facts.listed.extend(Slug(slug, Place(path, line)) for slug, path, line in slugs)
    elif text_of(name) == "maxDuration" and module.constants.get("maxDuration") == value:
        seconds = constants.value(value, module)
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
            facts.limits.append(Limit("function", float(seconds), place, pattern=module.path))
    elif text_of(name) in GROUPS and module.constants.get(text_of(name)):
        _group(text_of(name), value, module, constants, facts)
    elif meaning_of(text_of(name)) is not None and text_of(name).isupper() and module.constants.get(text_of(name)):
        constant = constants.value(value, module)
        if text_of(name).endswith("_INTERVAL") and isinstance(constant, str):
            constant = interval_seconds(constant)
        facts.values.append(as_value(text_of(name), constant, place, SettingSource.CONSTANT))


def _group(name: str, value: Node, module: Module, constants: Constants, facts: Facts) -> None:
    """Read `RETRY_CONFIG = { limit: 2 }`."""
    whole, where = constants.node(value, module)
    for key, node, inner in pairs_of(whole) if whole.type == "object" else ():
        if key in GROUPS[name]:
            place = Place(where.path, line_of(node))
            constant = constants.value(inner, where)
            facts.values.append(as_value(f"{name}.{key}", constant, place, SettingSource.CONSTANT))


def _pair(node: Node, module: Module, constants: Constants, facts: Facts) -> None:
    """Read `JOB_TIMEOUT_MS: 600_000` in an object, and `z.coerce.number().default(5)` in a schema."""
    key, value = node.child_by_field_name("key"), node.child_by_field_name("value")
    if key is None or value is None or not unquoted(key).isupper() or meaning_of(unquoted(key)) is None:
        return
    name = unquoted(key)
    place = Place(module.path, line_of(key))
    default = _schema_default(value)
    if default is not None:
        inner = constants.value(default, module)
        scalar: Scalar = inner.default if isinstance(inner, EnvironmentRead) else inner
        facts.values.append(Value(name, scalar, place, SettingSource.CONSTANT, variable=name))
        return
    constant = constants.value(value, module)
    if constant is not UNKNOWN:
        facts.values.append(as_value(name, constant, place, SettingSource.CONSTANT))


def _schema_default(value: Node) -> Node | None:
    if value.type != "call_expression":
        return None
    function = value.child_by_field_name("function")
    method = None if function is None else function.child_by_field_name("property")
    arguments = arguments_of(value)
    return arguments[0] if method is not None and text_of(method) == "default" and arguments else None


def _call(node: Node, module: Module, constants: Constants, facts: Facts) -> None:
    function = node.child_by_field_name("function")
    if function is None:
        return
    name = text_of(function.child_by_field_name("property") or function)
    arguments = arguments_of(node)
    if name == "registerProcessor" and len(arguments) >= 2:
        place = Place(module.path, line_of(node))
        slug = constants.value(arguments[0], module)
        if isinstance(slug, str):
            facts.registered.append(Slug(slug, place, enclosing_function(node)))
        else:
            facts.open_lists.append(place)
    elif name in ("create", "createMany", "upsert") and ".toolJob." in f".{text_of(function)}":
        _seed(arguments, module, facts)


_INTRODUCES: Final = frozenset({
    "function_declaration", "variable_declarator", "import_specifier", "export_specifier", "import_clause",
})  # fmt: skip


def _mention(node: Node, facts: Facts) -> None:
    """Note that a function is called, or handed on to be called, rather than only introduced."""
    parent = node.parent
    introduced = parent is not None and parent.type in _INTRODUCES and parent.child_by_field_name("value") != node
    if text_of(node).startswith("register") and not introduced:
        facts.called.add(text_of(node))


def _seed(arguments: list[Node], module: Module, facts: Facts) -> None:
    if not re.search(r"(^|/)(seeds?|seeders?)([./-]|$)", module.path):
        return
    for argument in arguments:
        for node in descend(argument):
            if node.type == "pair":
                key, value = node.child_by_field_name("key"), node.child_by_field_name("value")
                if key is not None and value is not None and unquoted(key) == "status" and value.type == "string":
                    facts.seeds.append(Seed(unquoted(value), Place(module.path, line_of(value))))


def _listen(node: Node, module: Module, facts: Facts) -> None:
    if _LISTEN.match(unquoted(node)) and node.parent is not None and node.parent.type == "arguments":
        facts.listens.append(Place(module.path, line_of(node)))


def _bearer(node: Node, module: Module, facts: Facts) -> None:
    """Note a comparison with `Bearer ${secret}` where nothing in the file asks whether the secret is set."""
    holes = [child for child in node.named_children if child.type == "template_substitution"]
    if not text_of(node).startswith("`Bearer ${") or len(holes) != 1 or not holes[0].named_children:
        return
    parent = node.parent
    while parent is not None and parent.type == "parenthesized_expression":
        parent = parent.parent
    if parent is not None and _is_compared(parent, text_of(module.root)):
        _door(holes[0].named_children[0], "the header `Bearer undefined`", node, module, facts)


def _is_skipped(secret: str, comparison: Node) -> bool:
    """Recognise `secret && header !== ...`: without a secret no request is refused."""
    here = comparison
    while here.parent is not None and here.parent.type in ("parenthesized_expression", "binary_expression"):
        here = here.parent
        sign, left = here.child_by_field_name("operator"), here.child_by_field_name("left")
        if sign is not None and left is not None and text_of(sign) == "&&" and text_of(left) == secret:
            return True
    return False


def _is_compared(parent: Node, source: str) -> bool:
    """Tell a comparison from a header that is sent."""
    if parent.type == "binary_expression":
        sign = parent.child_by_field_name("operator")
        return sign is not None and text_of(sign) in COMPARISONS
    if parent.type == "arguments" and parent.parent is not None:
        function = parent.parent.child_by_field_name("function")
        return function is not None and re.search(r"equal|compare", text_of(function), re.IGNORECASE) is not None
    name = parent.child_by_field_name("name") if parent.type == "variable_declarator" else None
    if name is None:
        return False
    word = re.escape(text_of(name))
    compared = rf"[!=]==?\s*{word}\b|\b{word}\s*[!=]==?|(?i:equal|compare)\w*\([^;]*\b{word}\b"
    return re.search(compared, source) is not None


def _comparison(node: Node, module: Module, facts: Facts) -> None:
    """Note `"Bearer " + secret`, and a token that may be undefined compared with a secret that may be too."""
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    sign = node.child_by_field_name("operator")
    if left is None or right is None or sign is None:
        return
    if text_of(sign) == "+" and left.type == "string" and unquoted(left) == "Bearer ":
        if node.parent is not None and _is_compared(node.parent, text_of(module.root)):
            _door(right, "the header `Bearer undefined`", node, module, facts)
    elif text_of(sign) in COMPARISONS:
        for secret, token in ((left, right), (right, left)):
            if _SECRET.search(text_of(secret)) and _MAY_BE_UNDEFINED.search(text_of(token)):
                _door(secret, "a request without any token", node, module, facts)


def _door(secret: Node, key: str, node: Node, module: Module, facts: Facts) -> None:
    name = text_of(secret).removesuffix("!")
    written = module.constants.get(name)
    source = name if written is None else text_of(written)
    if "process.env" not in source or re.search(r"\?\?|\|\|", source):
        return
    whole = text_of(module.root)
    comparison = node.parent if node.type != "binary_expression" or "Bearer" in text_of(node)[:9] else node
    if comparison is not None and _is_skipped(name, comparison) and not _refused(name, whole):
        facts.open_doors.append(Door("every request", Place(module.path, line_of(node))))
    elif not _guarded(name, whole):
        facts.open_doors.append(Door(key, Place(module.path, line_of(node))))


def _refused(secret: str, source: str) -> bool:
    name = re.escape(secret)
    return re.search(rf"!\s*{name}(?![\w.])|{name}\s*===?\s*(undefined|null|\"\")", source) is not None


def _guarded(secret: str, source: str) -> bool:
    name = re.escape(secret)
    asks = rf"!\s*{name}(?![\w.])|{name}\s*(===?|!==?)\s*(undefined|null|\"\")|if\s*\(\s*{name}\s*(\)|&&)"
    return re.search(asks + rf"|assert\w*\(\s*{name}|{name}\s*&&|{name}\.length|{name}!?\.trim\(", source) is not None


def _route(path: str, module: Module) -> Route:
    methods: set[str] = set()
    for node in module.root.named_children:
        if node.type == "export_statement":
            head = text_of(node)[:2000]
            methods |= {name for name in re.findall(r"\b[A-Z]{3,7}\b", head.partition("{")[0]) if name in METHODS}
            methods |= {name for name in re.findall(r"\b[A-Z]{3,7}\b", head) if name in METHODS and "{" in head[:10]}
    if PAGES_FILE.search(module.path):
        methods = set()
    return Route(path, tuple(sorted(methods)), Place(module.path, 1))
