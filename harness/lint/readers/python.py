"""Python settings: constants, fields of settings classes, `os.environ`, slugs and registrations. Parsed, never run."""

from __future__ import annotations

import ast
import operator
import sys
import warnings
from collections.abc import Callable
from typing import Final

from harness.lint.facts import UNKNOWN, Door, Facts, Place, Scalar, SettingSource, Slug, Unknown, Unreadable, Value
from harness.lint.settings import meaning_of

_OPERATORS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
LARGEST: Final = 1e15
_SPANS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800, "milliseconds": 0.001}
HEARTBEATS: Final = frozenset({"heartbeat_seconds", "heartbeat_interval"})
"""Settings that are computed: leases are extended, how often is unknown."""
_READS: Final = frozenset({"os.environ.get", "os.getenv", "environ.get", "getenv"})


def read_python(path: str, text: str, facts: Facts) -> ast.Module | None:
    """Read one module; answers its tree, None where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        release = ".".join(map(str, sys.version_info[:2]))
        facts.unreadable.append(Unreadable(Place(path, line), f"is no Python of {release}: {type(error).__name__}"))
        return None
    try:
        _Reader(path, facts).read(module)
    except RecursionError:
        facts.unreadable.append(Unreadable(Place(path, 1), "is nested too deeply"))
        return None
    return module


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

    def _body(self, body: list[ast.stmt], *, prefix: str | None = None) -> None:
        """Read assignments; with a prefix they are fields that a variable of that name outranks."""
        for node in body:
            if isinstance(node, ast.ClassDef):
                settings = any(ast.unparse(base).endswith("BaseSettings") for base in node.bases)
                self._body(node.body, prefix=_prefix_of(node) if settings else None)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        variable = "" if prefix is None else (prefix + target.id).upper()
                        self._assigned(target.id, node.value, node.lineno, variable)

    def _assigned(self, name: str, value: ast.expr, line: int, field: str) -> None:
        if name == "TOOL_SLUGS":
            self._slugs(value)
            return
        self._read_at[name] = value
        alias, default = self._field(value)
        scalar, variable = self._value(default)
        self._constants[name] = scalar
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
        """Answer a value, and the variable that outranks it."""
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
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
                return self._computed(type(sign), self._scalar(left), self._scalar(right))
            case ast.Call(func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta"), keywords=keywords):
                return self._span(keywords)
            case _:
                return UNKNOWN

    def _computed(self, sign: type[ast.operator], left: Scalar, right: Scalar) -> Scalar:
        if isinstance(left, (str, Unknown)) or isinstance(right, (str, Unknown)) or left is None or right is None:
            return UNKNOWN
        try:
            result = _OPERATORS[sign](left, right)
            return result if abs(result) < LARGEST else UNKNOWN
        except ArithmeticError:
            return UNKNOWN

    def _span(self, keywords: list[ast.keyword]) -> Scalar:
        total = 0.0
        for keyword in keywords:
            number = self._scalar(keyword.value)
            if keyword.arg not in _SPANS or isinstance(number, (str, Unknown)) or number is None:
                return UNKNOWN
            total += number * _SPANS[keyword.arg]
        return total

    def _bearer(self, node: ast.JoinedStr, module: ast.Module) -> None:
        """Note `f"Bearer {os.environ.get('CRON_SECRET')}"`: unset, it is `Bearer None`."""
        match node.values:
            case [ast.Constant(value="Bearer "), ast.FormattedValue(value=secret)]:
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


def _prefix_of(node: ast.ClassDef) -> str:
    """Answer the `env_prefix` of a settings class."""
    for call in (inner for statement in node.body for inner in ast.walk(statement) if isinstance(inner, ast.Call)):
        for keyword in call.keywords:
            if keyword.arg == "env_prefix" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return ""
