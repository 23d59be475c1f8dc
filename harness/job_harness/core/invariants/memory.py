"""A monitor's memory as a hashable value, and back: any dictionaries, sets, lists and plain objects that it keeps.

Two names for one object stay two names for one object. Knows no monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from job_harness.core.model import JobView, QueueState, Status
from job_harness.errors import UsageError

_PLAIN = frozenset({int, str, bool, type(None), Status, QueueState})
"""Types of values that are the same value wherever they are."""


class Alias:
    """Stands for an object that was met before."""


class Frozen(NamedTuple):
    """A value that was mutable: its type, and what it held, frozen too. An object holds (name, value) pairs."""

    kind: type[Any]
    items: tuple[Any, ...]


_EMPTY = {kind: Frozen(kind, ()) for kind in (dict, set, list)}
"""Most of what a monitor may remember it does not: one object for nothing is compared at once."""
_MISSING = object()


class Interned:
    """Stands for a value that never changes: equal values are stood for by one object, told apart by its number."""

    __slots__ = ("number", "value")

    def __init__(self, value: Any, number: int) -> None:
        """Stand for this value."""
        self.value = value
        self.number = number


class Interning:
    """Knows the values that never change by their identity: each is looked into once, however often it is met.

    These are views of jobs, and tuples with names and dataclasses whose hash goes by what they
    hold.
    """

    def __init__(self, numbers: dict[Any, int]) -> None:
        """Number values in this table, which others may share."""
        self._numbers = numbers
        self._met: dict[int, tuple[Any, Interned]] = {}
        self._interned: dict[int, Interned] = {}
        self._takes: dict[type[Any], bool] = {}

    def takes(self, kind: type[Any]) -> bool:
        """Say whether values of this type may be interned."""
        known = self._takes.get(kind)
        if known is None:
            named = (issubclass(kind, tuple) and hasattr(kind, "_fields")) or hasattr(kind, "__dataclass_fields__")
            known = self._takes[kind] = named and kind is not Frozen and not _by_identity(kind)
        return known

    def find(self, value: Any) -> Interned | None:
        """Return what stands for a value; None where something in it may change."""
        met = self._met.get(id(value))
        if met is not None:
            return met[1]
        kind = type(value)
        if kind is not JobView and not _hashable(value):
            return None
        number = self._numbers.setdefault((kind, freeze(value, {})), len(self._numbers))
        interned = self._interned.get(number)
        if interned is None:
            interned = self._interned[number] = Interned(value, number)
        self._met[id(value)] = value, interned
        return interned


_new: Callable[..., Any] = tuple.__new__
"""Builds a value without the detour through its constructor."""


def freeze_attributes(attributes: Mapping[str, Any], *, leave_out: frozenset[str]) -> Frozen:
    """Freeze attributes by name.

    Raises UsageError for what has no value to compare: a generator, a lock, an open file.
    """
    seen: dict[int, int] = {}
    return Frozen(
        object, tuple([(name, freeze(value, seen)) for name, value in attributes.items() if name not in leave_out])
    )


def freeze_apart(
    attributes: Mapping[str, Any], *, leave_out: frozenset[str], interning: Interning
) -> list[tuple[str, Any]]:
    """Freeze attributes by name, each for itself; where two share an object, all are frozen together.

    Raises UsageError for what has no value to compare.
    """
    apart: list[tuple[str, Any]] = []
    met: set[int] = set()
    for name, value in attributes.items():
        if name in leave_out:
            continue
        if type(value) in _PLAIN:
            apart.append((name, value))
            continue
        seen: dict[int, int] = {}
        apart.append((name, freeze(value, seen, interning)))
        if seen:
            if not met.isdisjoint(seen):
                return [("", freeze_attributes(attributes, leave_out=leave_out))]
            met.update(seen)
    return apart


def thaw_attributes(frozen: Frozen) -> dict[str, Any]:
    """Return the attributes, made anew."""
    seen: list[Any] = []
    return {name: thaw(value, seen) for name, value in frozen.items}


def freeze(value: Any, seen: dict[int, int], interning: Interning | None = None) -> Any:
    """Freeze a value; `seen` numbers the objects met so far."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        if not value:
            return _EMPTY[dict]
        items = [(key, item if type(item) in _PLAIN else freeze(item, seen, interning)) for key, item in value.items()]
        return _new(Frozen, (dict, tuple(items)))
    if kind is set or kind is list:
        if not value:
            return _EMPTY[kind]
        return _new(Frozen, (kind, tuple([freeze(item, seen, interning) for item in value])))
    if interning is not None and interning.takes(kind):
        interned = interning.find(value)
        if interned is not None:
            return interned
    if isinstance(value, tuple):
        return value if _hashable(value) else Frozen(kind, tuple([freeze(item, seen, interning) for item in value]))
    if not _by_identity(kind) and _hashable(value):
        return value
    if hasattr(kind, "__dataclass_fields__"):
        return _new(Frozen, (kind, _attributes(value, seen, interning)))
    if id(value) in seen:
        return Frozen(Alias, (seen[id(value)],))
    seen[id(value)] = len(seen)
    return _new(Frozen, (kind, _attributes(value, seen, interning)))


def _by_identity(kind: Any) -> bool:
    """Say whether objects of this type are equal only to themselves; members of enumerations count as values."""
    own: Any = kind.__hash__
    return own is object.__hash__ and not issubclass(kind, Enum)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _attributes(value: Any, seen: dict[int, int], interning: Interning | None) -> tuple[Any, ...]:
    kind: Any = type(value)
    names = (*_slots(kind), *getattr(value, "__dict__", ()))
    if not names:
        raise UsageError(
            f"{value!r:.100} cannot be remembered: it is not a value",
            hint="A monitor keeps numbers, texts, tuples, dictionaries, sets, lists and plain objects of these.",
        )
    held = []
    for name in names:
        item = getattr(value, name, _MISSING)
        if item is not _MISSING:
            held.append((name, item if type(item) in _PLAIN else freeze(item, seen, interning)))
    return tuple(held)


@cache
def _slots(kind: type[Any]) -> tuple[str, ...]:
    found: list[str] = []
    for parent in kind.__mro__:
        slots = parent.__dict__.get("__slots__", ())
        found.extend((slots,) if isinstance(slots, str) else slots)
    return tuple(name for name in found if not name.startswith("__"))


def thaw(value: Any, seen: list[Any]) -> Any:
    """Return the value, made anew; `seen` collects the objects in the order in which they were frozen."""
    if type(value) is not Frozen:
        return value.value if type(value) is Interned else value
    kind, items = value
    if kind is dict:
        return {key: item if type(item) in _PLAIN else thaw(item, seen) for key, item in items}
    if kind is set or kind is list:
        return kind([item if type(item) in _PLAIN else thaw(item, seen) for item in items])
    if kind is Alias:
        return seen[items[0]]
    if issubclass(kind, tuple):
        thawed = [thaw(item, seen) for item in items]
        return kind(*thawed) if hasattr(kind, "_fields") else tuple(thawed)
    made = object.__new__(kind)
    if not hasattr(kind, "__dataclass_fields__"):
        seen.append(made)
    for name, item in items:
        object.__setattr__(made, name, item if type(item) in _PLAIN else thaw(item, seen))
    return made
