"""A monitor's memory as a hashable value, and back: any dictionaries, sets, lists and plain objects that it keeps.

Two names for one object stay two names for one object. Knows no monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from harness.errors import UsageError
from harness.model.lifecycle import QueueState, Status

_PLAIN = frozenset({int, str, bool, type(None), Status, QueueState})
"""Types of values that are the same value wherever they are."""


class Alias:
    """Stands for an object that was met before."""


class Frozen(NamedTuple):
    """A value that was mutable: its type, and what it held, frozen too. An object holds (name, value) pairs."""

    kind: type[Any]
    items: tuple[Any, ...]


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


def thaw_attributes(frozen: Frozen) -> dict[str, Any]:
    """Return the attributes, made anew."""
    seen: list[Any] = []
    return {name: thaw(value, seen) for name, value in frozen.items}


def freeze(value: Any, seen: dict[int, int]) -> Any:
    """Freeze a value; `seen` numbers the objects met so far."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return _new(
            Frozen,
            (dict, tuple([(key, item if type(item) in _PLAIN else freeze(item, seen)) for key, item in value.items()])),
        )
    if kind is set or kind is list:
        return _new(Frozen, (kind, tuple([freeze(item, seen) for item in value])))
    if isinstance(value, tuple):
        return value if _hashable(value) else Frozen(kind, tuple([freeze(item, seen) for item in value]))
    if not _by_identity(kind) and _hashable(value):
        return value
    if hasattr(kind, "__dataclass_fields__"):
        return _new(Frozen, (kind, _attributes(value, seen)))
    if id(value) in seen:
        return Frozen(Alias, (seen[id(value)],))
    seen[id(value)] = len(seen)
    return _new(Frozen, (kind, _attributes(value, seen)))


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


def _attributes(value: Any, seen: dict[int, int]) -> tuple[Any, ...]:
    kind: Any = type(value)
    names = (*_slots(kind), *getattr(value, "__dict__", ()))
    if not names:
        raise UsageError(
            f"{value!r:.100} cannot be remembered: it is not a value",
            hint="A monitor keeps numbers, texts, tuples, dictionaries, sets, lists and plain objects of these.",
        )
    return tuple([(name, freeze(getattr(value, name), seen)) for name in names if hasattr(value, name)])


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
        return value
    kind, items = value
    if kind is dict:
        return {key: thaw(item, seen) if type(item) is Frozen else item for key, item in items}
    if kind is set or kind is list:
        return kind([thaw(item, seen) if type(item) is Frozen else item for item in items])
    if kind is Alias:
        return seen[items[0]]
    if issubclass(kind, tuple):
        thawed = [thaw(item, seen) for item in items]
        return kind(*thawed) if hasattr(kind, "_fields") else tuple(thawed)
    made = object.__new__(kind)
    if not hasattr(kind, "__dataclass_fields__"):
        seen.append(made)
    for name, item in items:
        object.__setattr__(made, name, thaw(item, seen) if type(item) is Frozen else item)
    return made
