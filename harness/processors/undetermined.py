"""Which clocks and sources of chance the code of a processor reads, found by looking at it; runs nothing.

Looks at a function, at what it defines and at the functions of the same project that it calls, a few levels deep.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Iterator
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

DEEPEST = 5
_CLOCKS = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "gmtime"})
_MISSING = object()
_OWN = str(Path(__file__).resolve().parents[1])
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Reading(NamedTuple):
    """One place where something undetermined is read."""

    kind: str
    """`time` or `randomness`."""
    name: str
    place: str


def readings(processor: Any) -> list[Reading]:
    """List what a processor reads, each name and place once."""
    call = processor
    if not isinstance(processor, FunctionType | MethodType):
        call = getattr(type(processor), "__call__", None)  # noqa: B004 - the function behind an object that is called
    function = getattr(call, "__func__", call)
    if not isinstance(function, FunctionType) or function.__code__.co_filename.startswith(_OWN):
        return []
    found: dict[Reading, None] = {}
    _follow(function, found, set(), DEEPEST)
    return list(found)


def _follow(function: FunctionType, found: dict[Reading, None], seen: set[CodeType], levels: int) -> None:
    if function.__code__ in seen or levels == 0:
        return
    seen.add(function.__code__)
    for code in _codes(function.__code__):
        for value, line in _loaded(code, function):
            kind = _kind_of(value)
            if kind is not None:
                found[Reading(kind, _name_of(value), f"{code.co_filename}:{line}")] = None
            inner = getattr(value, "__func__", value)
            if isinstance(inner, FunctionType) and not inner.__code__.co_filename.startswith(_STANDARD):
                _follow(inner, found, seen, levels - 1)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@lru_cache(maxsize=512)
def _instructions(code: CodeType) -> tuple[tuple[str, Any, int], ...]:
    line, told = code.co_firstlineno, []
    for each in dis.get_instructions(code):
        line = (each.positions and each.positions.lineno) or line
        told.append((each.opname, each.argval, line))
    return tuple(told)


def _loaded(code: CodeType, function: FunctionType) -> Iterator[tuple[Any, int]]:
    """Answer each global, and each attribute of one, that the code loads."""
    local = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    names: dict[str, Any] = {}
    value: Any = _MISSING
    for opname, argument, line in _instructions(code):
        if opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = function.__globals__.get(argument, _MISSING)
        elif opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and value is not _MISSING:
            value = _attribute(value, argument)
        elif opname == "IMPORT_NAME":
            value = sys.modules.get(argument, _MISSING)
        elif opname == "LOAD_DEREF" and argument in local:
            try:
                value = local[argument].cell_contents
            except ValueError:
                value = _MISSING
        elif opname in ("STORE_FAST", "STORE_DEREF"):
            names[argument] = value
            value = _MISSING
        elif opname.startswith("LOAD_FAST"):
            value = names.get(argument, _MISSING) if isinstance(argument, str) else _MISSING
        elif opname not in ("PUSH_NULL", "PRECALL", "CACHE"):
            value = _MISSING
        if value is not _MISSING:
            yield value, line


def _attribute(value: Any, name: str) -> Any:
    if not isinstance(value, ModuleType) and value is not datetime and value is not date:
        return _MISSING  # Anything else may run code when it is read.
    return getattr(value, name, _MISSING)


def _kind_of(value: Any) -> str | None:
    owner = getattr(value, "__self__", None) if callable(value) else None
    name = getattr(value, "__name__", "")
    if owner is datetime and name in ("now", "utcnow", "today"):
        return "time"
    if owner is date and name == "today":
        return "time"
    if getattr(owner, "__name__", "") == "time" and name in _CLOCKS:
        return "time"
    module = getattr(value, "__module__", None)
    if owner is not None and owner is getattr(sys.modules.get("random"), "_inst", _MISSING):
        return "randomness"
    if module == "uuid" and name in ("uuid1", "uuid4"):
        return "randomness"
    if module == "secrets" or (getattr(owner, "__name__", "") in ("posix", "nt") and name == "urandom"):
        return "randomness"
    return None


def _name_of(value: Any) -> str:
    owner = getattr(value, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{value.__name__}"
    module = getattr(owner, "__name__", None) or getattr(value, "__module__", None) or "random"
    return f"{'os' if module == 'posix' else module}.{value.__name__}"
