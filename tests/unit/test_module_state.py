"""What the modules of a project hold, and which are its own: that is asked in every explored run."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

from job_harness.subjects.processors.module_state import ModuleState, modules_below


def test_a_module_that_is_loaded_loaded_anew_or_unloaded_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> ModuleType:
        made = ModuleType("pay_of_this_test")
        made.__file__ = str(tmp_path / "pay_of_this_test.py")
        monkeypatch.setitem(sys.modules, made.__name__, made)
        return made

    assert modules_below(tmp_path) == {}
    for _ in range(3):
        made = load()
        assert modules_below(tmp_path) == {"pay_of_this_test": made}
        modules_below(tmp_path).clear()  # What is returned is the caller's.
    monkeypatch.delitem(sys.modules, "pay_of_this_test")
    assert modules_below(tmp_path) == {}


def test_what_an_object_computes_once_from_itself_is_no_memory_of_a_run() -> None:
    class Model:
        calls = 0

        @cached_property
        def _serialized(self) -> str:
            return "model"

    made = ModuleType("agent_of_this_test")
    made.model = model = Model()  # type: ignore[attr-defined]
    before = ModuleState({made.__name__: made})
    assert model._serialized == "model"
    assert ModuleState({made.__name__: made}).changed(before) == []
    model.calls += 1
    assert ModuleState({made.__name__: made}).changed(before) == ["agent_of_this_test.model.calls"]
    model.inner = Model()  # type: ignore[attr-defined]
    before = ModuleState({made.__name__: made})
    model.inner.calls += 1  # type: ignore[attr-defined]
    assert ModuleState({made.__name__: made}).changed(before) == ["agent_of_this_test.model.inner.calls"]


REMEMBERS = """
from functools import lru_cache

class Slots:
    __slots__ = ("seen", "empty")
    def __init__(self):
        self.seen = set()

slots = Slots()

def by_default(order, seen=set()):
    seen.add(order)

def around():
    seen = set()
    def inside(order):
        seen.add(order)
    return inside

enclosed = around()

def renamed(order):
    global sent
    sent = order

@lru_cache
def computed(order):
    return order + 1
"""


def test_slots_defaults_enclosed_variables_and_new_names_are_memory_and_what_is_computed_is_none() -> None:
    made = ModuleType("pay_of_this_test")
    exec(REMEMBERS, vars(made))

    def changed(*steps: str) -> list[str]:
        before = ModuleState({made.__name__: made})
        for step in steps:
            exec(step, vars(made))
        return [name.removeprefix("pay_of_this_test.") for name in ModuleState({made.__name__: made}).changed(before)]

    assert changed("computed(7)") == []
    assert changed("slots.seen.add(7)") == ["slots.seen"]
    assert changed("by_default(7)") == ["by_default.__defaults__"]
    assert changed("enclosed(7)") == ["enclosed.seen"]
    assert changed("renamed(7)") == ["sent"]
    assert changed("slots.empty = 1", "renamed(8)") == ["slots.empty", "sent"]
