"""Python, parsed and never run: settings of an application, and the calls of Celery, procrastinate and PgQueuer."""

from __future__ import annotations

import ast
import operator
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeGuard

import tree_sitter_python
from tree_sitter import Node

from job_harness.review.check.celery_names import CONFIGURED, SETTINGS, celery_name
from job_harness.review.check.facts import (
    UNKNOWN,
    Door,
    Facts,
    Place,
    QueueCall,
    Scalar,
    SettingSource,
    Slug,
    Unreadable,
    Value,
    is_aside,
)
from job_harness.review.check.settings import FLAG, meaning_of
from job_harness.review.check.typescript import descend, parser_of, text_of

_OPERATORS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
LARGEST_NUMBER: Final = 1e15
_LENGTHS: Final = {
    "days": 86400, "seconds": 1, "microseconds": 1e-6, "milliseconds": 0.001, "minutes": 60, "hours": 3600,
    "weeks": 604800,
}  # fmt: skip
"""What `timedelta` takes, in its order, in seconds."""
_MILLISECONDS: Final = re.compile(r"(?i)_(ms|msecs?|millis|milliseconds)$")
"""How the name of a number of milliseconds ends."""
HEARTBEATS: Final = frozenset({"heartbeat_seconds", "heartbeat_interval"})
"""Settings that are computed: leases are extended, how often is unknown."""
_READS: Final = frozenset({"os.environ.get", "os.getenv", "environ.get", "getenv"})


def read_python(path: str, text: str, facts: Facts) -> ast.Module | None:
    """Read one module; answers its tree, None where it is no Python."""
    try:
        module = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if _TEMPLATE.search(text) is not None:
            return None
        line = getattr(error, "lineno", None) or 1
        release = ".".join(map(str, sys.version_info[:2]))
        why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        facts.unreadable.append(Unreadable(Place(path, line), f"is no Python {release}: {why}"))
        return None
    if FLAG in text:
        facts.named.setdefault(FLAG, Place(path, 1))
    try:
        _Reader(path, facts).read(module)
    except RecursionError:
        facts.unreadable.append(Unreadable(Place(path, 1), "is nested too deeply"))
        return None
    return module


_TEMPLATE: Final = re.compile(r"(?m)^\s*\{%[-+]?\s*\w+|\{\{-?\s*cookiecutter\b")
"""What a generator of projects is to fill in."""


def _parsed(text: str) -> ast.Module:
    """Parse a module; what this Python is too old for, and says nothing of a queue, is rewritten on the same lines."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return ast.parse(text)
        except SyntaxError:
            return ast.parse(_older(text.encode()))


def _older(source: bytes) -> bytes:
    """Rewrite what Python 3.12 to 3.14 brought, each piece on as many lines."""
    parts, at, nodes = [b""], 0, descend(parser_of(tree_sitter_python.language).parse(source).root_node)
    for start, end, instead in sorted(piece for node in nodes for piece in _newer(node)):
        if start >= at:
            parts += [source[at:start], instead.encode(), b"\\\n" * source.count(b"\n", start, end)]
            at = end
    return b"".join([*parts, source[at:]])


def _newer(node: Node) -> Iterator[tuple[int, int, str]]:
    """Return from where to where a node has what an older Python does not know, and what is written instead."""
    if (given := node.child_by_field_name("type_parameters")) is not None:  # def first[T](items)
        yield given.start_byte, given.end_byte, ""
    elif node.type == "type_alias_statement":  # type Name[T] = list[T]
        yield node.start_byte, node.children[-1].start_byte, f"{re.findall('[^ =[]+', text_of(node))[1]} = "
    elif node.type == "except_clause" and len(values := node.children_by_field_name("value")) > 1:
        yield values[0].start_byte, values[-1].end_byte, f"({', '.join(map(text_of, values))})"
    elif node.type == "string" and re.search(
        rf"[\\#\n{text_of(node.children[-1])}]",
        "".join(text_of(one) for one in node.children if one.type == "interpolation"),
    ):  # f'{job['id']}': its own quotes, or a backslash, within the braces
        yield node.start_byte, node.end_byte, '""'


class _Reader:
    def __init__(self, path: str, facts: Facts) -> None:
        self._path = path
        self._facts = facts
        self._constants: dict[str, Scalar] = {}
        self._read_at: dict[str, ast.expr] = {}

    def read(self, module: ast.Module) -> None:
        self._body(module.body)
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                self._registration(node)
            elif isinstance(node, ast.JoinedStr):
                self._bearer(node, module)
            elif isinstance(node, ast.FunctionDef) and node.name in HEARTBEATS:
                place = Place(self._path, node.lineno)
                self._facts.values.append(Value(node.name, UNKNOWN, place, SettingSource.WORK))

    def _body(self, body: list[ast.stmt], *, prefix: str | None = None, unsure: frozenset[str] = frozenset()) -> None:
        """Read assignments; with a prefix they are fields that a variable of that name outranks.

        Those of `unsure` have a value in each of several classes, of which one is taken.
        """
        differing = _differing([node for node in body if isinstance(node, ast.ClassDef)])
        for node in body:
            if isinstance(node, ast.ClassDef):
                settings = any(ast.unparse(base).endswith("BaseSettings") for base in node.bases)
                self._body(node.body, prefix=_prefix_of(node) if settings else None, unsure=differing)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        variable = "" if prefix is None else (prefix + target.id).upper()
                        self._assigned(target.id, node.value, node.lineno, variable, sure=target.id not in unsure)

    def _assigned(self, name: str, value: ast.expr, line: int, field: str, *, sure: bool) -> None:
        if name == "TOOL_SLUGS":
            self._slugs(value)
            return
        self._read_at[name] = value
        alias, default = self._field(value)
        scalar, variable = self._value(default)
        scalar = self._constants[name] = scalar if sure else UNKNOWN
        if alias is not None:
            name, variable = alias, alias
        elif field:
            variable = field
        if meaning_of(name) is not None and (scalar is not UNKNOWN or variable):
            place = Place(self._path, line)
            self._facts.values.append(Value(name, scalar, place, SettingSource.CONSTANT, variable=variable))

    def _field(self, value: ast.expr) -> tuple[str | None, ast.expr]:
        """Unwrap `Field(default=..., validation_alias="NAME")`."""
        if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("Field", "pydantic.Field")):
            return None, value
        named = {keyword.arg: keyword.value for keyword in value.keywords}
        alias = named.get("validation_alias", named.get("alias"))
        written = alias.value if isinstance(alias, ast.Constant) and isinstance(alias.value, str) else None
        return written, named.get("default", value.args[0] if value.args else ast.Constant(None))

    def _value(self, node: ast.expr) -> tuple[Scalar, str]:
        """Return a value, and the variable that outranks it."""
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("int", "float", "str") and len(node.args) == 1:
                return self._value(node.args[0])
            if name in _READS and node.args and isinstance(node.args[0], ast.Constant):
                default = self._value(node.args[1])[0] if len(node.args) > 1 else None
                return default, str(node.args[0].value)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("os.environ", "environ"):
            key = node.slice
            return (None, str(key.value)) if isinstance(key, ast.Constant) else (UNKNOWN, "")
        return self._scalar(node), ""

    def _scalar(self, node: ast.expr) -> Scalar:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.Name(id=name):
                return self._constants.get(name, UNKNOWN)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                number = self._scalar(inner)
                return -number if isinstance(number, (int, float)) else UNKNOWN
            case ast.BinOp(left=left, op=sign, right=right):
                return _computed(sign, self._scalar(left), self._scalar(right))
            case ast.Call(func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta")):
                return _span(node, self._scalar)
            case _:
                return UNKNOWN

    def _bearer(self, node: ast.JoinedStr, module: ast.Module) -> None:
        """Note `f"Bearer {os.environ.get('CRON_SECRET')}"`: unset, it is `Bearer None`."""
        match node.values:
            case [ast.Constant(value="Bearer "), ast.FormattedValue(value=secret)] if _is_compared(node, module):
                name = ast.unparse(secret)
                written = self._read_at.get(name, secret)
                reads = isinstance(written, ast.Call) and ast.unparse(written.func) in _READS and len(written.args) == 1
                if reads and f"not {name}" not in ast.unparse(module) and f"{name} is None" not in ast.unparse(module):
                    place = Place(self._path, node.lineno)
                    self._facts.open_doors.append(Door("the header `Bearer None`", place))

    def _slugs(self, value: ast.expr) -> None:
        if not isinstance(value, (ast.Tuple, ast.List, ast.Set)):
            self._facts.open_lists.append(Place(self._path, value.lineno))
            return
        for item in value.elts:
            place = Place(self._path, item.lineno)
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                self._facts.listed.append(Slug(item.value, place))
            else:
                self._facts.open_lists.append(place)

    def _registration(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name != "register_processor" or len(node.args) < 2:
            return
        place = Place(self._path, node.lineno)
        slug = self._scalar(node.args[0])
        if isinstance(slug, str):
            self._facts.registered.append(Slug(slug, place))
        else:
            self._facts.open_lists.append(place)


def _is_compared(header: ast.expr, module: ast.Module) -> bool:
    """Tell a header that is compared, by itself or under the name that it is given, from one that is sent."""
    names = {
        target.id
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and node.value is header
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        compares = isinstance(node, ast.Call) and re.search(r"(?i)equal|compare", ast.unparse(node.func))
        if isinstance(node, ast.Compare) or compares:
            for part in ast.walk(node):
                if part is header or (isinstance(part, ast.Name) and part.id in names):
                    return True
    return False


def _differing(classes: list[ast.ClassDef]) -> frozenset[str]:
    """List the names that several classes assign, and not all alike: of `DevelopmentConfig` and `ProductionConfig`."""
    values: dict[str, set[str]] = {}
    for node in classes if len(classes) > 1 else ():
        for name, value in (pair for statement in node.body for pair in _assigned(statement)):
            values.setdefault(name, set()).add(ast.dump(value))
    return frozenset(name for name, found in values.items() if len(found) > 1)


def _prefix_of(node: ast.ClassDef) -> str:
    """Return the `env_prefix` of a settings class."""
    for call in (inner for statement in node.body for inner in ast.walk(statement) if isinstance(inner, ast.Call)):
        for keyword in call.keywords:
            if keyword.arg == "env_prefix" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return ""


CELERY: Final = "celery"
PROCRASTINATE: Final = "procrastinate"
PGQUEUER: Final = "pgqueuer"
_SAME: Final = {"django_q": "django-q2", "temporalio": "temporal"}
"""Package that is imported -> the name that its users know, where it is another."""
LIBRARIES: Final = frozenset(
    {
        CELERY,
        PROCRASTINATE,
        PGQUEUER,
        "rq",
        "dramatiq",
        "arq",
        "huey",
        "taskiq",
        "saq",
        "inngest",
        "apscheduler",
        *_SAME,
    }
)

_TASKS: Final = frozenset({"task", "shared_task", "periodic_task"})
_DJANGO_SETTINGS: Final = re.compile(r"(^|/)settings(/|$|\.py$)|(^|/)settings\w*\.py$|/config/")


@dataclass(slots=True)
class PythonModule:
    """A parsed file, its constants by name, and which libraries it imports."""

    path: str
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    """Imported name -> where it comes from, with dots."""
    caught: list[tuple[int, int]] | None = None
    """Lines between which what is raised is caught, once asked for."""
    local: frozenset[int] | None = None
    """Names in functions that stand for what the function was given or made, by `id`, once asked for."""

    @classmethod
    def of(cls, path: str, tree: ast.Module) -> PythonModule:
        """Index a file."""
        module = cls(path, tree)
        roots: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
                module.names.update({alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names})
            elif isinstance(node, ast.ImportFrom):
                if not node.level and node.module:
                    roots.add(node.module.partition(".")[0])
                origin = f"{'.' * node.level}{node.module or ''}"
                module.names.update({alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names})
        for statement in tree.body:
            for name, value in _assigned(statement):
                module.constants[name] = value
            if isinstance(statement, ast.ClassDef):
                module.classes[statement.name] = statement
        module.imports = frozenset({_package(root) for root in roots} & LIBRARIES)
        return module

    def constant(self, name: ast.expr) -> ast.expr | None:
        """Return what a name stands for in this file; None where no constant does, or something in a function."""
        return None if not isinstance(name, ast.Name) or self.is_local(name) else self.constants.get(name.id)

    def is_local(self, name: ast.Name) -> bool:
        """Tell a parameter, or what a function assigns, from a constant of the module."""
        if self.local is None:
            self.local = frozenset(_locals(self.tree))
        return id(name) in self.local

    def imports_name(self, name: str) -> bool:
        """Tell a name that comes from another file, or may come with `*`."""
        return name in self.names or "*" in self.names


def _locals(tree: ast.Module) -> Iterator[int]:
    """List the names in functions that are bound there."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        body: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else list(function.body)
        names = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]
        shared = {
            name for part in body for node in ast.walk(part) if isinstance(node, ast.Global) for name in node.names
        }
        bound = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
        bound |= {node.id for node in names if isinstance(node.ctx, ast.Store)} - shared
        yield from (id(node) for node in names if node.id in bound)


def _package(root: str) -> str:
    """Return what a package is called: PgQueuer was spelled with capitals."""
    return PGQUEUER if root == "PgQueuer" else root


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif (
        isinstance(statement, ast.AnnAssign) and statement.value is not None and isinstance(statement.target, ast.Name)
    ):
        yield statement.target.id, statement.value


class _Holder(NamedTuple):
    """A class or a dict that holds the settings of Celery, its file, the prefix of the names, and its line."""

    node: ast.expr | ast.ClassDef
    module: PythonModule
    prefix: str
    line: int


class PythonValues:
    """Reads what expressions come to, over all modules together."""

    def __init__(self, modules: Iterable[PythonModule]) -> None:
        self._anywhere: dict[str, list[tuple[ast.expr, PythonModule]]] = {}
        for module in modules:
            for name, value in module.constants.items():
                self._anywhere.setdefault(name, []).append((value, module))

    def definitions(self, name: str) -> list[tuple[ast.expr, PythonModule]]:
        """List what is assigned to a name at the top of any module."""
        return self._anywhere.get(name, [])

    def keywords(self, node: ast.Call, module: PythonModule) -> dict[str, Value]:
        """Return the options that a call names."""
        found: dict[str, Value] = {}
        for keyword in node.keywords:
            if keyword.arg is not None:
                found.update(self.option(keyword.arg, keyword.value, module))
        return found

    def option(self, name: str, node: ast.expr, module: PythonModule) -> dict[str, Value]:
        """Return an option, and those of a dict below it with a dot."""
        place = Place(module.path, node.lineno)
        found = {name: Value(name, self.scalar(node, module), place, SettingSource.SEND)}
        written = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if _MILLISECONDS.search(written):
            found[f"{name}.milliseconds"] = self.plain(f"{name}.milliseconds", written, module, node.lineno)
        node = module.constant(node) or node
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    inner = Place(module.path, value.lineno)
                    told = self.scalar(value, module)
                    found[f"{name}.{key.value}"] = Value(f"{name}.{key.value}", told, inner, SettingSource.SEND)
        return found

    def plain(self, name: str, value: Scalar, module: PythonModule, line: int) -> Value:
        """Return an option whose value is known already."""
        return Value(name, value, Place(module.path, line), SettingSource.SEND)

    def scalar(self, node: ast.expr, module: PythonModule, *, depth: int = 0) -> Scalar:
        """Return what an expression comes to; `settings.NAME` is the only NAME of the repository."""
        if depth > 20:
            return UNKNOWN
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.Name():
                return self._resolve_name(node, module, depth)
            case ast.Attribute(value=ast.Name(id="settings"), attr=name):
                return self._elsewhere(name, depth)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                number = self.scalar(inner, module, depth=depth + 1)
                return -number if isinstance(number, (int, float)) else UNKNOWN
            case ast.BinOp(left=left, op=sign, right=right):
                return _computed(
                    sign, self.scalar(left, module, depth=depth + 1), self.scalar(right, module, depth=depth + 1)
                )
            case ast.Call():
                return self._made(node, module, depth)
            case _:
                return UNKNOWN

    def _resolve_name(self, node: ast.Name, module: PythonModule, depth: int) -> Scalar:
        """Return what a name comes to: a constant of this file, or of another that it is imported from."""
        here = module.constant(node)
        if here is not None:
            return self.scalar(here, module, depth=depth + 1)
        if module.is_local(node) or not module.imports_name(node.id):
            return UNKNOWN
        return self._elsewhere(module.names.get(node.id, node.id).rpartition(".")[2], depth)

    def _elsewhere(self, name: str, depth: int) -> Scalar:
        found = self.definitions(name)
        return self.scalar(found[0][0], found[0][1], depth=depth + 1) if len(found) == 1 else UNKNOWN

    def _made(self, node: ast.Call, module: PythonModule, depth: int) -> Scalar:
        name = ast.unparse(node.func)
        if name.endswith("timedelta"):
            return _span(node, lambda part: self.scalar(part, module, depth=depth + 1))
        default = _default_of(node, name)
        if default is not None:
            return self.scalar(default, module, depth=depth + 1)
        if name in ("int", "float", "str") and len(node.args) == 1:
            return self.scalar(node.args[0], module, depth=depth + 1)
        return UNKNOWN


class PythonQueues:
    """Reads what all modules together say of their queues."""

    def __init__(self, modules: Iterable[PythonModule], facts: Facts) -> None:
        self._modules = list(modules)
        self._facts = facts
        self._values = PythonValues(self._modules)
        self._apps = self._app_names()
        self._holders: list[_Holder] = []
        self._configured = self._configuration()
        self._registered = _RegisteredTasks.of(self._modules)

    def read(self) -> None:
        """Read every module."""
        for module in self._modules:
            for library in module.imports:
                self._facts.imported.setdefault(_SAME.get(library, library), Place(module.path, 1))
            try:
                self._read(module)
            except RecursionError:
                continue
        for holder in self._holders:
            pairs, where = self._held(holder.node, holder.module)
            self._settings(pairs, where, holder.prefix, whole=False)
            if not pairs:
                self._facts.unfollowed.append(Place(holder.module.path, holder.line))

    def _app_names(self) -> dict[str, str]:
        """Return which names stand for an app, wherever one is made: name -> library."""
        found: dict[str, str] = {}
        for module in self._modules:
            for name, value in module.constants.items():
                made = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
                origin = self._origin(made, module)
                if origin.startswith("celery") and made.endswith("Celery"):
                    found[name] = CELERY
                elif origin.startswith("procrastinate") and made.endswith(("App", "Blueprint")):
                    found[name] = PROCRASTINATE
        return found

    def _origin(self, name: str, module: PythonModule) -> str:
        head, _, rest = name.partition(".")
        return f"{module.names.get(head, '')}.{rest}".strip(".")

    def _library_of(self, owner: str, module: PythonModule) -> str | None:
        """Return whose app a name is: made here, imported from the library, or imported from where it is made."""
        head = owner.partition(".")[0]
        origin = module.names.get(head, "")
        for library in (CELERY, PROCRASTINATE, PGQUEUER):
            if _package(origin.partition(".")[0]) == library:
                return library
        if head in module.constants and head in self._apps:
            return self._apps[head]
        last = origin.rpartition(".")[2]
        if origin and last in self._apps:
            return self._apps[last]
        return None

    def _configuration(self) -> dict[str, str]:
        """Return which modules hold the settings of Celery, and under which prefix: path -> prefix."""
        found: dict[str, str] = {}
        for module in self._modules:
            if re.search(r"(^|/)celery_?conf(ig)?(\w*|/\w+)\.py$", module.path):
                found[module.path] = ""
            for node in ast.walk(module.tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if node.func.attr != "config_from_object" or CELERY not in module.imports or not node.args:
                    continue
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                prefix = named.get("namespace")
                text = prefix.value if isinstance(prefix, ast.Constant) and isinstance(prefix.value, str) else ""
                if not self._follow(node.args[0], module, text + "_" if text else "", found):
                    self._facts.unfollowed.append(Place(module.path, node.lineno))
        return found

    def _follow(self, given: ast.expr, module: PythonModule, prefix: str, found: dict[str, str]) -> bool:
        """Note the modules, or the class or dict, that settings are taken from; tell whether there are any."""
        text = ast.unparse(given.func if isinstance(given, ast.Call) else given)
        if _is_text(given):
            origin, fallback = str(given.value).replace(":", "."), str(given.value).partition(":")[0]
        elif text in module.classes or module.constant(given) is not None:
            self._holders.append(_Holder(module.classes.get(text, given), module, prefix, given.lineno))
            return True
        else:
            origin, fallback = self._origin(text, module), module.names.get(text.partition(".")[0], "")
        if origin.startswith("django.conf"):
            wanted = [one for one in self._modules if _DJANGO_SETTINGS.search(one.path)] or self._setting(prefix)
        else:
            wanted = self._modules_at(origin)
        above, _, name = origin.rpartition(".")
        places = [] if wanted else self._modules_at(above)
        holders = [(held, one) for one in places if (held := one.classes.get(name, one.constants.get(name)))]
        self._holders += [_Holder(held, one, prefix, held.lineno) for held, one in holders]
        wanted = wanted or ([] if holders else self._modules_at(fallback))
        found.update({one.path: prefix for one in wanted if one.path not in found})
        return bool(wanted or holders)

    def _setting(self, prefix: str) -> list[PythonModule]:
        """List the files that set something of Celery under a prefix: Django's settings, wherever they are."""
        return [
            one
            for one in self._modules
            if prefix
            and not is_aside(one.path)
            and any(celery_name(name, prefix) in SETTINGS for name in one.constants)
        ]

    def _modules_at(self, origin: str) -> list[PythonModule]:
        """List the files that a module of this name may be."""
        stem = origin.lstrip(".").replace(".", "/")
        bare = {one.path.removesuffix(".py").removesuffix("/__init__"): one for one in self._modules if stem}
        return [one for path, one in bare.items() if path == stem or path.endswith("/" + stem)]

    def _read(self, module: PythonModule) -> None:
        prefix = self._configured.get(module.path)
        if prefix is not None:
            held = [*module.constants.items(), *(_held_by_classes(module) if prefix else ())]
            self._settings(held, module, prefix, whole=not prefix)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.With) and any(self._is_atomic(one.context_expr, module) for one in node.items):
                self._in_transaction(node.body, module)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if any(self._is_atomic(one, module) for one in node.decorator_list):
                    self._in_transaction(node.body, module)
                self._function(node, module)
            elif isinstance(node, ast.Call):
                self._call(node, module)
            elif isinstance(node, ast.Assign):
                self._conf(node, module)

    def _settings(self, pairs: list[tuple[str, ast.expr]], module: PythonModule, prefix: str, *, whole: bool) -> None:
        """Note the settings among the names that a module, a class or a dict holds."""
        options: dict[str, Value] = {}
        read = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name) and type(node.ctx) is ast.Load}
        for name, value in pairs:
            known = celery_name(name, prefix)
            if known is not None and (known in SETTINGS or name not in read):
                told = self._values.option(known, value, module)
                written = name if not prefix else known
                options.update({key: replace(one, name=written) if key == known else one for key, one in told.items()})
                self._read_entries(known, value, module)
        if options:
            self._note(CELERY, "settings", CONFIGURED, options, module, 1, whole=whole)

    def _held(
        self, held: ast.expr | ast.ClassDef, module: PythonModule, *, depth: int = 0
    ) -> tuple[list[tuple[str, ast.expr]], PythonModule]:
        """List what a class, with those that it inherits from here, or a dict assigns, and the file that it is in."""
        if depth > 8:
            return [], module
        match held:
            case ast.ClassDef(bases=bases, body=body):
                above = [
                    module.classes[one.id] for one in bases if isinstance(one, ast.Name) and one.id in module.classes
                ]
                pairs = [pair for base in above for pair in self._held(base, module, depth=depth + 1)[0]]
                return [*pairs, *(pair for statement in body for pair in _assigned(statement))], module
            case ast.Dict(keys=keys, values=values):
                return [
                    (str(key.value), value)
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(key, ast.Constant)
                ], module
            case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
                return [(one.arg, one.value) for one in keywords if one.arg is not None], module
            case ast.Call(func=ast.Name(id=name)) if name in module.classes:
                return self._held(module.classes[name], module, depth=depth + 1)
            case ast.Name(id=name):
                here = module.constant(held)
                if here is not None:
                    return self._held(here, module, depth=depth + 1)
                found = self._values.definitions(module.names.get(name, "").rpartition(".")[2])
                if len(found) == 1 and not module.is_local(held):
                    return self._held(*found[0], depth=depth + 1)
        return [], module

    def _conf(self, node: ast.Assign, module: PythonModule) -> None:
        """Read `app.conf.task_acks_late = True`, and `app.conf["task_acks_late"] = True`."""
        for target in node.targets:
            text = ast.unparse(target) if isinstance(target, ast.Attribute) else ""
            if isinstance(target, ast.Subscript) and _is_text(target.slice):
                text = f"{ast.unparse(target.value)}.{target.slice.value!s}"
            owner, _, name = text.rpartition(".conf.")
            if owner and "." not in name and self._library_of(owner, module) == CELERY:
                known = celery_name(name, "")
                if known is not None:
                    self._note(
                        CELERY, "settings", None, self._values.option(known, node.value, module), module, node.lineno
                    )
                    self._read_entries(known, node.value, module)

    def _call(self, node: ast.Call, module: PythonModule) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if (name == "update" and owner.endswith(".conf") and self._library_of(owner, module) == CELERY) or (
            name == "Celery" and self._origin(name, module).startswith("celery")
        ):
            self._configure(node, module)
        elif name == "apply_async" and CELERY in self._used(module):
            task = owner.rpartition(".")[2]
            options = {**self._ahead(node, module), **self._values.keywords(node, module)}
            self._note(CELERY, "apply_async", task, options, module, node.lineno)
        elif name == "send_task" and node.args and CELERY in self._used(module):
            self._named_task("send_task", node.args[0], module)
        elif name in ("run_worker", "run_worker_async") and self._library_of(owner, module) in (PROCRASTINATE, None):
            if PROCRASTINATE in self._used(module) or self._library_of(owner, module) == PROCRASTINATE:
                self._worker(node, module)
        elif name in ("get_stalled_jobs", "retry_stalled_jobs", "prune_stalled_workers"):
            self._note(PROCRASTINATE, "stalled", None, {}, module, node.lineno)
        elif name == "crontab" and self._origin("crontab", module).startswith("celery"):
            self._crontab(node, module)
        elif name in _DEFERS and PROCRASTINATE in self._used(module):
            self._deferred(node, module)
        elif PGQUEUER in module.imports and name in ("enqueue", "run"):
            self._pgqueuer_call(name, node, module)

    def _deferred(self, node: ast.Call, module: PythonModule) -> None:
        """Read `task.defer(...)` and `task.configure(lock=...).defer(...)`."""
        assert isinstance(node.func, ast.Attribute)
        owner, options = node.func.value, dict[str, Value]()
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr == "configure":
            options = self._values.keywords(owner, module)
            owner = owner.func.value
        if isinstance(owner, (ast.Name, ast.Attribute)):
            task = ast.unparse(owner).rpartition(".")[2]
            self._note(PROCRASTINATE, "defer", task, {**options, **self._caught(node, module)}, module, node.lineno)

    def _pgqueuer_call(self, name: str, node: ast.Call, module: PythonModule) -> None:
        options = {**self._values.keywords(node, module), **self._caught(node, module)}
        if name == "run":
            self._note(PGQUEUER, "run", None, options, module, node.lineno)
            return
        for at, argument in zip(("entrypoint", "payload"), node.args, strict=False):
            options.update(self._values.option(at, argument, module))
            options[f"{at}.kind"] = self._values.plain(f"{at}.kind", _kind(argument), module, argument.lineno)
        told = options.get("entrypoint")
        queue = told.value if told is not None and isinstance(told.value, str) else None
        if told is not None:
            self._note(PGQUEUER, "enqueue", queue, options, module, node.lineno)

    def _caught(self, node: ast.Call, module: PythonModule) -> dict[str, Value]:
        """Say whether what a call raises is caught around it: by its name, or whatever it is."""
        if module.caught is None:
            module.caught = [
                (one.body[0].lineno, one.body[-1].end_lineno or one.body[-1].lineno)
                for one in ast.walk(module.tree)
                if (isinstance(one, ast.Try) and one.handlers)
                or (isinstance(one, ast.With) and "suppress(" in ast.unparse(one.items[0]))
            ]
        caught = any(first <= node.lineno <= last for first, last in module.caught)
        return {"caught": self._values.plain("caught", caught, module, node.lineno)}

    def _used(self, module: PythonModule) -> frozenset[str]:
        """Return the libraries that a file uses: what it imports, and the apps that it imports from elsewhere."""
        apps = {
            self._apps[last] for origin in module.names.values() if (last := origin.rpartition(".")[2]) in self._apps
        }
        return frozenset({*module.imports, *apps, *self._facts_libraries()})

    def _facts_libraries(self) -> Iterator[str]:
        asked = {one.library for one in self._facts.packages} | set(self._facts.imported)
        yield from asked & {CELERY}

    def _ahead(self, node: ast.Call, module: PythonModule) -> dict[str, Value]:
        """Read `eta=now() + timedelta(days=3)` as the countdown that it is."""
        eta = next((one.value for one in node.keywords if one.arg == "eta"), None)
        if not (isinstance(eta, ast.BinOp) and isinstance(eta.op, ast.Add) and isinstance(eta.left, ast.Call)):
            return {}
        now = ast.unparse(eta.left.func).rpartition(".")[2] in ("now", "utcnow", "localtime")
        seconds = self._values.scalar(eta.right, module) if now and isinstance(eta.right, ast.Call) else UNKNOWN
        told = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        return {"countdown": self._values.plain("countdown", seconds, module, eta.lineno)} if told else {}

    def _is_atomic(self, node: ast.expr, module: PythonModule) -> bool:
        """Tell `transaction.atomic()` of Django, called or not; one that names its database may only read there."""
        if isinstance(node, ast.Call):
            if node.args or any(one.arg == "using" for one in node.keywords):
                return False
            node = node.func
        return self._origin(ast.unparse(node), module) == "django.db.transaction.atomic"

    def _in_transaction(self, block: list[ast.stmt], module: PythonModule) -> None:
        """Note the tasks that are sent at once, within a transaction; what a function or lambda holds comes later."""
        if self._registered.sends_itself or CELERY not in self._used(module):
            return
        waiting: list[ast.AST] = list(block)
        while waiting:
            node = waiting.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
                continue
            if isinstance(node, ast.With) and any(self._is_atomic(one.context_expr, module) for one in node.items):
                continue  # It is read as a transaction of its own.
            waiting.extend(ast.iter_child_nodes(node))
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            task = ast.unparse(node.func.value).rpartition(".")[2]
            later = {"countdown", "eta", None} & {keyword.arg for keyword in node.keywords}
            if node.func.attr in ("delay", "apply_async") and task in self._registered.tasks and not later:
                self._note(CELERY, "in_transaction", task, {}, module, node.lineno)

    def _configure(self, node: ast.Call, module: PythonModule) -> None:
        """Read `Celery(broker=...)` and `app.conf.update(...)`, by names or by a dict."""
        options: dict[str, Value] = {}
        told = [(keyword.arg, keyword.value, module) for keyword in node.keywords if keyword.arg is not None]
        held = [] if ast.unparse(node.func).endswith("Celery") else node.args[:1]
        for holder in [*held, *(keyword.value for keyword in node.keywords if keyword.arg is None)]:
            pairs, where = self._held(holder, module)
            told += [(name, value, where) for name, value in pairs]
            if not pairs and not isinstance(holder, ast.Dict):
                self._facts.unfollowed.append(Place(module.path, node.lineno))
        for name, value, where in told:
            known = {"broker": "broker_url", "backend": "result_backend"}.get(name) or celery_name(name, "")
            if known is not None:
                options.update(self._values.option(known, value, where))
                self._read_entries(known, value, where)
        self._note(CELERY, "settings", None, options, module, node.lineno)

    def _read_entries(self, name: str, value: ast.expr, module: PythonModule) -> None:
        """Read a setting that lists entries: the schedule of beat, or where tasks go."""
        value = module.constant(value) or value
        if name == "beat_schedule":
            self._beat(value, module)
        elif name == "task_routes" and isinstance(value, ast.Dict):
            for entry in value.values:
                if isinstance(entry, ast.Dict):
                    routed = self._values.option("route", entry, module)
                    options = {"queue": routed["route.queue"]} if "route.queue" in routed else {}
                    self._note(CELERY, "route", None, options, module, entry.lineno)

    def _beat(self, value: ast.expr, module: PythonModule) -> None:
        """Read the entries of a schedule; `crontab(...)` in it is read where it stands."""
        if isinstance(value, ast.Dict):
            for entry in value.values:
                if isinstance(entry, ast.Dict):
                    told = next(
                        (
                            inner
                            for key, inner in zip(entry.keys, entry.values, strict=True)
                            if isinstance(key, ast.Constant) and key.value == "task"
                        ),
                        None,
                    )
                    if told is not None:
                        self._named_task("beat", told, module)

    def _named_task(self, method: str, told: ast.expr, module: PythonModule) -> None:
        """Note a task that is named by a text; `missing_in` is the file that should define it and does not."""
        task = self._values.scalar(told, module)
        missing = self._registered.missing(task) if isinstance(task, str) else ""
        options = {"missing_in": self._values.plain("missing_in", missing, module, told.lineno)} if missing else {}
        self._note(CELERY, method, task if isinstance(task, str) else None, options, module, told.lineno)

    def _crontab(self, node: ast.Call, module: PythonModule) -> None:
        names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        options = dict(self._values.keywords(node, module))
        for name, argument in zip(names, node.args, strict=False):
            options.update(self._values.option(name, argument, module))
        self._note(CELERY, "crontab", None, options, module, node.lineno)

    def _worker(self, node: ast.Call, module: PythonModule) -> None:
        options = self._values.keywords(node, module)
        queues = next((keyword.value for keyword in node.keywords if keyword.arg == "queues"), None)
        names = self._texts(queues, module) if queues is not None else None
        whole = queues is None or names is not None
        place = Place(module.path, node.lineno)
        self._facts.calls.append(
            QueueCall(
                PROCRASTINATE, "worker", None, options, place, frozenset(names or ()), whole, is_aside(module.path)
            )
        )

    def _texts(self, node: ast.expr | None, module: PythonModule) -> list[str] | None:
        node = None if node is None else module.constant(node) or node
        if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return None
        found = [self._values.scalar(item, module) for item in node.elts]
        return [one for one in found if isinstance(one, str)] if all(isinstance(one, str) for one in found) else None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule) -> None:
        decorated = [(decorator, *_decorator(decorator)) for decorator in node.decorator_list]
        tasks = [one for one in decorated if one[2] in _TASKS]
        if PGQUEUER in module.imports and isinstance(node, ast.AsyncFunctionDef) and node.returns is not None:
            plain = not any("contextmanager" in ast.unparse(one) for one in node.decorator_list)
            if plain and ast.unparse(node.returns).rpartition(".")[2] in ("PgQueuer", "QueueManager"):
                self._note(PGQUEUER, "factory", node.name, {}, module, node.lineno)
        for at, (decorator, owner, name) in enumerate(decorated):
            library = self._library_of(owner or name, module)
            if name in _TASKS and library is None and name == "shared_task" and CELERY in module.imports:
                library = CELERY
            if library == PGQUEUER or (library is None and PGQUEUER in module.imports and name in _ENTRY):
                self._pgqueuer(decorator, name, node, module)
            elif name == "task" and library in (CELERY, PROCRASTINATE):
                self._task(library, decorator, node, module)
            elif name == "shared_task" and library == CELERY:
                self._task(CELERY, decorator, node, module)
            elif name == "periodic" and library == PROCRASTINATE:
                self._periodic(decorator, node, module, below=any(one in tasks for one in decorated[:at]))

    def _task(
        self, library: str, decorator: ast.expr, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule
    ) -> None:
        options = self._values.keywords(decorator, module) if isinstance(decorator, ast.Call) else {}
        if library == PROCRASTINATE and isinstance(decorator, ast.Call):
            retry = next((keyword.value for keyword in decorator.keywords if keyword.arg == "retry"), None)
            retry = None if retry is None else module.constant(retry) or retry
            if isinstance(retry, ast.Call) and ast.unparse(retry.func).endswith("RetryStrategy"):
                inner = self._values.keywords(retry, module)
                if ast.unparse(retry.func).rpartition(".")[2] == "RetryStrategy":
                    options.update({f"retry.{name}": value for name, value in inner.items()})
        body = self._body(node, module)
        options.update({name: self._values.plain(name, value, module, node.lineno) for name, value in body.items()})
        if library == CELERY:
            options.update(self._retries(node, module))
            # A decorator below it may add what the task takes, or take it away.
            if id(node) not in self._registered.methods and node.decorator_list[-1] is decorator:
                first = next((one.arg for one in (*node.args.posonlyargs, *node.args.args)), "")
                options["body.first"] = self._values.plain("body.first", first, module, node.lineno)
        whole = not (isinstance(decorator, ast.Call) and any(keyword.arg is None for keyword in decorator.keywords))
        place = Place(module.path, node.lineno)
        self._facts.calls.append(
            QueueCall(library, "task", node.name, options, place, frozenset({node.name}), whole, is_aside(module.path))
        )

    def _retries(self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule) -> dict[str, Value]:
        """Note the longest countdown of the task's own `self.retry()`, and a call that leaves it to the task."""
        found: dict[str, Value] = {}
        for inner in ast.walk(node):
            if not _retries_itself(inner, node.name):
                continue
            named = {keyword.arg: keyword.value for keyword in inner.keywords}
            if not {"countdown", "eta", None} & named.keys() and len(inner.args) < ETA_POSITION:
                found["retry.default"] = self._values.plain("retry.default", True, module, inner.lineno)
            seconds = self._values.scalar(named["countdown"], module) if "countdown" in named else UNKNOWN
            longest = found.get("retry.countdown")
            if isinstance(seconds, (int, float)) and (longest is None or seconds > longest.value):  # type: ignore[operator]
                line = named["countdown"].lineno
                found["retry.countdown"] = self._values.plain("retry.countdown", seconds, module, line)
        return found

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule) -> dict[str, Scalar]:
        """Note what the body of a task does that matters: retries, and waiting for another task's result."""
        found: dict[str, Scalar] = {}
        first = node.args.args[0].arg if node.args.args else ""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and any(isinstance(one, ast.Name) and one.id == first for one in inner.args):
                found["body.hands_on"] = True  # the task itself, where it is bound: a helper may retry it
            if not (isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute)):
                continue
            if _retries_itself(inner, node.name):
                found["body.retry"] = True
            elif inner.func.attr == "get" and isinstance(inner.func.value, ast.Call):
                sent = inner.func.value.func
                allowed = any(keyword.arg == "disable_sync_subtasks" for keyword in inner.keywords)
                if isinstance(sent, ast.Attribute) and sent.attr in ("delay", "apply_async") and not allowed:
                    found["body.get"] = inner.lineno
            elif inner.func.attr == "sleep" and inner.args:
                longest, seconds = found.get("body.sleep"), self._values.scalar(inner.args[0], module)
                if isinstance(seconds, (int, float)):
                    found["body.sleep"] = max(seconds, longest if isinstance(longest, (int, float)) else 0)
        found["body.async"] = isinstance(node, ast.AsyncFunctionDef)
        found["body.parameters"] = len(node.args.args) + len(node.args.posonlyargs)
        if node.args.vararg is not None or node.args.kwonlyargs or node.args.kwarg is not None:
            found["body.parameters"] = 99
        return found

    def _periodic(
        self, decorator: ast.expr, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule, *, below: bool
    ) -> None:
        options = self._values.keywords(decorator, module) if isinstance(decorator, ast.Call) else {}
        if below:
            options["below"] = self._values.plain("below", True, module, decorator.lineno)
        if "cron" in options:
            options["schedule"] = options["cron"]
        self._note(PROCRASTINATE, "cron", node.name, options, module, decorator.lineno)

    def _pgqueuer(
        self, decorator: ast.expr, name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, module: PythonModule
    ) -> None:
        if name not in _ENTRY or not isinstance(decorator, ast.Call) or not decorator.args:
            return
        options = self._values.keywords(decorator, module)
        asynchronous = isinstance(node, ast.AsyncFunctionDef)
        options["body.async"] = self._values.plain("body.async", asynchronous, module, node.lineno)
        told = self._values.scalar(decorator.args[0], module)
        if name == "schedule" and len(decorator.args) > 1:
            options.update(self._values.option("schedule", decorator.args[1], module))
        if "expression" in options:
            options["schedule"] = options["expression"]
        method = "task" if name == "entrypoint" else "cron"
        self._note(PGQUEUER, method, told if isinstance(told, str) else None, options, module, decorator.lineno)

    def _note(
        self,
        library: str,
        method: str,
        queue: str | None,
        options: Mapping[str, Value],
        module: PythonModule,
        line: int,
        *,
        whole: bool = True,
    ) -> None:
        names = frozenset({queue}) if queue is not None else frozenset()
        place = Place(module.path, line)
        self._facts.calls.append(
            QueueCall(library, method, queue, dict(options), place, names, whole, is_aside(module.path))
        )


@dataclass(frozen=True, slots=True)
class _RegisteredTasks:
    """Under which names modules with tasks of Celery may register them: what they define, and what they are given."""

    defined: Mapping[str, tuple[str, frozenset[str]]]
    """The path of a module with dots -> its file, and every name that occurs in it."""
    given: frozenset[str]
    whole: bool
    """Whether every name that a task is given could be read."""
    tasks: frozenset[str]
    """Functions that are decorated as a task."""
    methods: frozenset[int]
    """Functions of classes, by `id`."""
    sends_itself: bool
    """Whether a class has a `delay` or an `apply_async` of its own, which may wait for a commit."""

    @classmethod
    def of(cls, modules: Iterable[PythonModule]) -> _RegisteredTasks:
        """Look through modules."""
        defined: dict[str, tuple[str, frozenset[str]]] = {}
        given: set[str] = set()
        whole = True
        tasks: set[str] = set()
        methods: dict[int, str] = {}
        for module in modules:
            names = set(module.names)
            registers = False
            for node in ast.walk(module.tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    names.add(node.name)
                    decorated = any(_decorator(one)[1] in _TASKS for one in node.decorator_list)
                    registers = registers or decorated
                    tasks |= {node.name} if decorated else set()
                    if isinstance(node, ast.ClassDef):
                        methods |= {id(one): one.name for one in node.body if isinstance(one, ast.FunctionDef)}
                elif isinstance(node, ast.Name):
                    names.add(node.id)
                elif isinstance(node, ast.Assign) and _is_text(node.value) and ast.unparse(node.targets[0]) == "name":
                    given.add(str(node.value.value))
                elif isinstance(node, ast.Call) and _decorator(node)[1] in _TASKS:
                    for named in (one.value for one in node.keywords if one.arg in ("name", None)):
                        whole = whole and _is_text(named)
                        given.add(str(named.value) if isinstance(named, ast.Constant) else "")
            whole = whole and "gen_task_name" not in names
            if registers:
                dotted = module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                defined[dotted] = module.path, frozenset(names)
        sends_itself = not {"delay", "apply_async"}.isdisjoint(methods.values())
        return cls(defined, frozenset(given), whole, frozenset(tasks), frozenset(methods), sends_itself)

    def missing(self, task: str) -> str:
        """Return the file in which a task of this name would be, and nothing is called so; empty where that is open."""
        origin, _, name = task.rpartition(".")
        places = [place for dotted, place in self.defined.items() if dotted == origin or dotted.endswith("." + origin)]
        if not origin or not self.whole or task in self.given or any({name, "*"} & names for _, names in places):
            return ""
        return places[0][0] if places else ""


def _is_text(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


_READS_VARIABLE: Final = re.compile(r"^(env(\.\w+)?|values\.\w*Value|config|int|float|bool|str)$")
"""What applications call to read a variable: django-environ, django-configurations, decouple, and casts of those."""


def _default_of(call: ast.Call, name: str) -> ast.expr | None:
    """Return what a call that reads a variable comes to where that is not set; None where nothing says so."""
    if name not in _READS and _READS_VARIABLE.match(name) is None:
        return None
    named = next((keyword.value for keyword in call.keywords if keyword.arg == "default"), None)
    at = 1 if name in _READS or name.startswith("env.") else 0
    positional = name in _READS or name.startswith(("env.", "values."))
    return call.args[at] if named is None and positional and len(call.args) > at else named


_OF_DEVELOPMENT: Final = re.compile(r"(?i)test|dev|local|build|integration|^ci$")


def _held_by_classes(module: PythonModule) -> Iterator[tuple[str, ast.expr]]:
    """List what the classes of a file set, as in django-configurations; what they set differently is not known."""
    held: dict[str, list[ast.expr]] = {}
    for name, node in module.classes.items():
        if _OF_DEVELOPMENT.search(name) is None:
            for one, value in (pair for statement in node.body for pair in _assigned(statement)):
                held.setdefault(one, []).append(value)
    for one, values in held.items():
        if len({ast.dump(value) for value in values}) == 1:
            yield one, values[0]


_ENTRY: Final = frozenset({"entrypoint", "schedule"})
_DEFERS: Final = frozenset({"defer", "defer_async", "batch_defer", "batch_defer_async"})


ETA_POSITION: Final = 5
"""Where `retry(args, kwargs, exc, throw, eta, countdown)` begins to be told when the task comes again."""


def _retries_itself(node: ast.AST, task: str) -> TypeGuard[ast.Call]:
    """Tell `self.retry(...)`, and the task's own name in place of `self`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr == "retry" and ast.unparse(node.func.value) in ("self", task)


def _kind(node: ast.expr) -> str:
    """Return of which type an expression certainly is; empty where that cannot be told."""
    if isinstance(node, ast.Constant):
        return type(node.value).__name__
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "str"):
        return "str"
    kinds = {ast.JoinedStr: "str", ast.Dict: "dict", ast.List: "list"}
    return kinds.get(type(node), "")


def _decorator(node: ast.expr) -> tuple[str, str]:
    """Return the owner and the name of a decorator, called or not."""
    inner = node.func if isinstance(node, ast.Call) else node
    if isinstance(inner, ast.Attribute):
        return ast.unparse(inner.value), inner.attr
    return "", inner.id if isinstance(inner, ast.Name) else ""


def _computed(sign: ast.operator, left: Scalar, right: Scalar) -> Scalar:
    compute = _OPERATORS.get(type(sign))
    if compute is None or not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        return UNKNOWN
    try:
        result = compute(left, right)
    except ArithmeticError:
        return UNKNOWN
    return result if abs(result) < LARGEST_NUMBER else UNKNOWN


def _span(call: ast.Call, scalar: Callable[[ast.expr], Scalar]) -> Scalar:
    """Return the seconds of a `timedelta(...)`."""
    told = [*zip(_LENGTHS, call.args, strict=False), *((one.arg or "", one.value) for one in call.keywords)]
    total = 0.0
    for unit, value in told:
        number = scalar(value)
        if unit not in _LENGTHS or not isinstance(number, (int, float)):
            return UNKNOWN
        total += number * _LENGTHS[unit]
    return total
