"""What modules of a project hold at one moment, and what of it has changed since: state that outlives a run in memory.

Reads without running any of a project's code. Knows neither runs nor processors' work.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any, Final

DEEPEST: Final = 4
MOST_ITEMS: Final = 200
"""Of one container; what lies beyond is counted, not compared."""


IN_MEMORY: Final = (
    "keep what must not be forgotten in a database, and what stands for something outside in the test's own module"
)
"""The cure for what a module remembers and a new process does not."""


_OF_TESTS: Final = frozenset({"test", "tests", "testing", "fakes", "stubs", "mocks", "fixtures"})
"""Modules and folders of such a name hold what stands for the world outside."""


class ModuleMemory:
    """What modules of a project keep in plain data, numbers, texts and containers of these, as it was at one moment."""

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        """Keep a copy of it."""
        self._kept = [
            (module, name, value, copy.deepcopy(value))
            for module in modules.values()
            for name, value in list(vars(module).items())
            if not name.startswith("__") and is_plain(value, DEEPEST)
        ]

    @property
    def names(self) -> frozenset[str]:
        """What is kept, as `ModuleState` calls it."""
        return frozenset(f"{module.__name__}.{name}" for module, name, _, _ in self._kept)

    def crash(self) -> None:
        """Lose what the process of a worker has changed, as it dies."""
        self.set_back()

    def set_back(self) -> None:
        """Let it be as it was then, each container the one that it was."""
        for module, name, value, before in self._kept:
            if isinstance(value, list):
                value[:] = before
            elif isinstance(value, dict | set | deque):
                value.clear()
                value.extend(before) if isinstance(value, deque) else value.update(before)
            setattr(module, name, value)


def is_plain(value: object, levels: int) -> bool:
    """Whether a value is numbers, texts and containers of these, at most that many levels deep."""
    kind = type(value)
    if kind in (int, float, str, bytes, bool, complex, type(None)):
        return True
    if levels == 0:
        return False
    if kind in (dict, defaultdict, Counter, OrderedDict) and isinstance(value, dict):
        return all(is_plain(each, levels - 1) for pair in value.items() for each in pair)
    if kind in (list, tuple, set, frozenset, deque) and isinstance(value, Iterable):
        return all(is_plain(each, levels - 1) for each in value)
    return False


class ModuleState:
    """What the modules of a project hold at one moment, without running any of their code."""

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        """Read these modules, by their names."""
        self._values: dict[str, object] = {}
        for name, module in modules.items():
            for attribute, value in list(vars(module).items()):
                if not attribute.startswith("__") and not attribute.startswith("@"):
                    own = type(value) is FunctionType and value.__module__ == name
                    shape = _shape_of_function(value) if own else _shape(value, DEEPEST, set())
                    self._values[f"{name}.{attribute}"] = shape
        self._modules = frozenset(modules)

    def changed(self, before: ModuleState) -> list[str]:
        """Name what is not as it was `before`, of an object its attribute; a module loaded since is no change."""
        return [
            f"{name}{_changed_in(before._values.get(name), value)}"
            for name, value in self._values.items()
            if before._values.get(name) != value and name.rpartition(".")[0] in before._modules
        ]


_PATHS: Final = 20_000
"""Paths of modules that are remembered: every explored run asks for all of them, and pathlib took a third of a run."""
_OURS: Final = ("job_harness", "job_harness_reference")
_NO_PROJECTS: Final = sys.stdlib_module_names | {"__main__", "__mp_main__"}


def modules_below(folder: Path) -> dict[str, ModuleType]:
    """Return the modules that are loaded from below `folder`, installed packages left out."""
    return dict(_modules_below(folder, tuple(map(id, list(sys.modules.values())))))


@lru_cache(maxsize=4)
def _modules_below(folder: Path, _: tuple[int, ...]) -> dict[str, ModuleType]:
    # Each explored run asks, and hardly ever has one been loaded in between: to look at each of a thousand modules
    # anew was a seventh of a run. What is found is held here, so no other one can take its number.
    return {name: module for name, module in list(sys.modules.items()) if _is_of(module, folder)}


def modules_of(processors: Iterable[object]) -> dict[str, ModuleType]:
    """Return the modules in which processors are, those of tests and of installed packages left out.

    What a test's own module remembers may stand for the world outside, which no crash changes.
    """
    found = {}
    for processor in processors:
        code = processor.func if isinstance(processor, functools.partial) else processor
        code = inspect.unwrap(code) if callable(code) else code
        name = str(getattr(code, "__module__", ""))
        module = sys.modules.get(name)
        if module is not None and _is_of(module, Path("/")) and not _is_of_tests(module):
            found[name] = module
    return found


def loaded_modules() -> dict[str, ModuleType]:
    """Return all modules that are loaded and neither installed nor Python's own, those of tests too."""
    loaded = modules_below(Path("/"))
    return {name: module for name, module in loaded.items() if name.partition(".")[0] not in _NO_PROJECTS}


def modules_of_project(processors: Iterable[object]) -> dict[str, ModuleType]:
    """Return the modules in which processors are, and all that are loaded and neither installed nor Python's own.

    Those of tests and of fakes are left out, as in `modules_of`.
    """
    loaded = {name: module for name, module in loaded_modules().items() if not _is_of_tests(module)}
    return {**modules_of(processors), **loaded}


def _is_of_tests(module: ModuleType) -> bool:
    return _names_tests(str(module.__file__), module.__name__)


@lru_cache(maxsize=_PATHS)
def _names_tests(path: str, name: str) -> bool:
    file = Path(path)
    named = file.name == "conftest.py" or file.name.startswith("test_") or file.name.endswith("_test.py")
    return named or not _OF_TESTS.isdisjoint([file.stem, file.parent.name, *name.split(".")])


def _is_of(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
    if not isinstance(file, str) or is_installed(module):
        return False
    return _lies_below(file, folder)


@lru_cache(maxsize=_PATHS)
def _lies_below(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)


def is_installed(module: object) -> bool:
    """Whether a module came with a package, ours included: what it keeps is no state of the project's."""
    file, name = getattr(module, "__file__", None), getattr(module, "__name__", "")
    return isinstance(file, str) and ("-packages" in file or str(name).partition(".")[0] in _OURS)


_CODE: Final = (ModuleType, FunctionType, BuiltinFunctionType, logging.Logger)
_CONTAINERS: Final = (list, tuple, set, frozenset, dict, deque, MutableMapping, MutableSequence, MutableSet)


def _is_of_others(value: object, kind: type) -> bool:
    """Whether what changes in it is a library's affair: code, a logger, an object of an installed package.

    A container of a library's, such as a cache, holds what the project has put into it.
    """
    if issubclass(kind, _CODE):
        return True
    if issubclass(kind, type):
        home = str(type.__getattribute__(value, "__module__"))
        return home.partition(".")[0] in sys.stdlib_module_names or is_installed(sys.modules.get(home))
    known = sys.modules.get(str(type.__getattribute__(kind, "__module__")))
    return is_installed(known) and not any(base in _CONTAINERS for base in kind.__mro__)


def _shape(value: Any, levels: int, seen: set[int]) -> object:
    """Return what of a value can be compared: by its content as far as it is plain data, else by its type."""
    # What is compared must not run a project's code: an `__eq__`, a property or a lazy attribute
    # may do anything, at a moment when nothing should happen. So plain data is compared by
    # content and everything else by type and `__dict__`, read past the class. Libraries' objects
    # count as nothing: a client that is made on first use is no memory of a run. The price is
    # that a change deep inside is not seen; it is a reason to look, never a proof that nothing was
    # kept. What `lru_cache` keeps is computed from its arguments, by its very purpose.
    kind = type(value)
    if kind in (int, float, str, bytes, bool, complex, type(None)):
        return value
    if _is_of_others(value, kind):
        return None  # As nothing at all: to make a client where it is first used is no change.
    if levels == 0 or id(value) in seen:
        return kind.__qualname__
    seen = seen | {id(value)}
    if kind in (list, tuple) or kind.__name__ == "deque":
        return (kind.__name__, len(value), [_shape(each, levels - 1, seen) for each in list(value)[:MOST_ITEMS]])
    if kind in (set, frozenset):
        return (kind.__name__, len(value), sorted(repr(_shape(each, levels - 1, seen)) for each in value)[:MOST_ITEMS])
    if isinstance(value, dict):
        return (kind.__name__, len(value), list(_pairs(value, levels, seen)))
    own = {} if value.__class__ is not kind else _attributes(value)
    return (kind.__qualname__, list(_pairs(own, levels, seen)))


def _shape_of_function(function: FunctionType) -> object:
    """Return what a function of the project's keeps between calls: attributes, defaults, the variables around it."""
    kept = {**vars(function), "__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # It is empty.
            kept[name] = cell.cell_contents
    shapes = {name: shape for name, value in kept.items() if (shape := _shape(value, DEEPEST - 1, set())) is not None}
    return ("function", [(repr(name), shape) for name, shape in shapes.items()]) if shapes else None


def _changed_in(before: Any, after: Any) -> str:
    """Name the first attribute in which two shapes of an object differ; nothing where they are of something else."""
    of_object = all(type(shape) is tuple and len(shape) == 2 for shape in (before, after))
    if not of_object or before[0] != after[0]:
        return ""
    held = dict(before[1])
    differing = ((name, value) for name, value in after[1] if name not in held or held[name] != value)
    name, value = next(differing, ("", None))
    return f".{name[1:-1]}{_changed_in(held.get(name), value)}" if name else ""


def _attributes(value: object) -> Mapping[str, object]:
    try:
        held = {**object.__getattribute__(value, "__dict__")}
    except AttributeError:
        held = {}
    for base in type(value).__mro__:  # A slot is read past any property of its name.
        for name, slot in vars(base).items():
            if type(slot) is MemberDescriptorType:
                with suppress(AttributeError):  # It is empty.
                    held[name] = slot.__get__(value)
    if isinstance(value, type):
        return {name: one for name, one in held.items() if not name.startswith("__") and not callable(one)}
    return {name: one for name, one in held.items() if not _is_cached(name, type(value))}


def _is_cached(name: str, kind: type) -> bool:
    """Say whether an attribute was computed from the others when it was first read: a crash loses nothing by it."""
    return any(isinstance(vars(base).get(name), functools.cached_property) for base in kind.__mro__)


def _pairs(mapping: Mapping[Any, Any], levels: int, seen: set[int]) -> Iterator[tuple[str, object]]:
    for key, value in list(mapping.items())[:MOST_ITEMS]:
        yield repr(_shape(key, 1, seen)), _shape(value, levels - 1, seen)
