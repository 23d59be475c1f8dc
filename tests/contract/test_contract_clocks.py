"""The table of clocks is that of the code; owners and proofs exist; no other code reads the machine's clock."""

from __future__ import annotations

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from job_harness.search import targets as wiring
from job_harness.worlds.peers import clocks
from job_harness.worlds.peers.clocks import CLOCKS, ClockOwner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contracts/clocks.md").read_text(encoding="utf-8")
MACHINE = re.compile(r"(\w+\.)?(time\.(time|monotonic|perf_counter)(_ns)?|datetime\.(now|utcnow|today)|date\.today)")
IN_REAL_TIME = (
    "worlds/patience.py",
    "doors/cli/",
    "doors/pytest/",
    "search/",
    "core/interruption.py",
    "core/sim/watchdog.py",
    "subjects/processors/thread_handoff.py",
    "subjects/systems/python/",
)
"""Who waits for another process, speaks with a person, measures how long a search takes, or replaces the clock."""


def row(clock: ClockOwner) -> str:
    proof = ", ".join(f"`{name}`" for name in clock.proof)
    whose = clock.whose + (f": {', '.join(f'`{name}`' for name in clock.engines)}" if clock.engines else "")
    return f"| {whose} | `{clock.owner}` | {clock.told} | {proof} |"


def test_the_page_has_the_table_of_the_code() -> None:
    assert f"Version {clocks.VERSION}." in PAGE
    wanted = [row(clock) for clock in CLOCKS]
    assert [line for line in PAGE.splitlines() if line.startswith("| ")][2:] == wanted, "\n".join(wanted)


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda clock: clock.whose)
def test_an_owner_and_what_proves_it_exist(clock: ClockOwner) -> None:
    for name in (clock.owner, *clock.proof):
        module, colon, attribute = name.partition(":")
        if colon:
            assert reduce(getattr, attribute.split("."), importlib.import_module(module)), name
        else:
            assert (ROOT / name).is_file(), name


def test_each_row_of_what_is_under_control_is_held_by_a_test() -> None:
    page = (ROOT / "docs/system_files.md").read_text(encoding="utf-8")
    table = page.partition("## What is under control\n")[2].partition("\n| --- ")[2].partition("\n\n")[0]
    rows = table.splitlines()[1:]
    held = [re.findall(r"`(test_\w+\.py)::(test_\w+)`", row.rstrip(" |").rpartition("|")[2]) for row in rows]
    assert len(held) > 10
    assert all(held), "a row that no test holds"
    for file, name in {test for row in held for test in row}:
        (path,) = (path for room in ("contract", "unit") if (path := ROOT / "tests" / room / file).exists())
        assert f"def {name}(" in path.read_text(encoding="utf-8"), f"{file} has no {name}"


def test_every_engine_has_a_store_whose_clock_is_owned() -> None:
    shipped = {name.removesuffix("-gated") for name in wiring.SHIPPED}
    owned = [engine for clock in CLOCKS for engine in clock.engines]
    assert sorted(owned) == sorted(shipped)


def test_the_machines_clock_is_read_by_who_waits_or_searches_and_nowhere_else() -> None:
    readers = {
        path.relative_to(ROOT / "harness/job_harness").as_posix()
        for path in (ROOT / "harness/job_harness").rglob("*.py")
        if MACHINE.search(text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and MACHINE.fullmatch(ast.unparse(node.func))
    }
    assert "worlds/patience.py" in readers
    assert [reader for reader in readers if not reader.startswith(IN_REAL_TIME)] == []
