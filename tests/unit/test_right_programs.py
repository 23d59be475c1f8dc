"""`make right` in parts: its page keeps what became of each program with each seed, and the rest is run next."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEPT = """
| queue: mail | 0 | 100 | right | 2026-01-02 | `abc` |  |
| queue: mail | 1 | 100 | ALARM | 2026-01-03 | `def` | it / that |
| queue: gone | 0 | 100 | right | 2026-01-01 | `abc` |  |
"""


@pytest.fixture
def right() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/right/__main__.py"))


def test_the_page_in_the_repository_is_what_its_own_rows_make(right: dict[str, Any]) -> None:
    text = right["PAGE"].read_text(encoding="utf-8")
    assert right["page"](right["kept_cells"](text), right["kept_check"](text)) == text


@pytest.mark.parametrize(
    ("seed", "resume", "left"),
    [
        (0, True, ["programs/test_queue.py::test_new"]),
        (1, True, ["programs/test_queue.py::test_new", "programs/test_queue.py::test_mail"]),
        (0, False, ["programs/test_queue.py::test_new", "programs/test_queue.py::test_mail"]),
    ],
)
def test_what_is_not_there_is_run_first_and_what_was_right_not_again(
    right: dict[str, Any], seed: int, resume: bool, left: list[str]
) -> None:
    asked = argparse.Namespace(only=[], seeds=2, runs=200, page=False, resume=resume, minutes=1.0)
    campaign = right["Campaign"](asked, KEPT)
    campaign.seed = seed
    items: Any = [SimpleNamespace(nodeid=f"programs/test_queue.py::test_{name}") for name in ("mail", "new")]
    campaign.pytest_collection_modifyitems(SimpleNamespace(), items)
    assert [item.nodeid for item in items] == left
    told = right["page"](campaign.cells, "")
    assert "| queue: new | 0, 1 | - | never run |" in told
    assert "| ALARM | 2026-01-03 | `def` | it / that |" in told
    assert "gone" not in told


def test_a_program_that_was_only_set_up_was_never_run(right: dict[str, Any]) -> None:
    asked = argparse.Namespace(only=[], seeds=1, runs=200, page=False, resume=False, minutes=1.0)
    campaign = right["Campaign"](asked, "")
    items: Any = [SimpleNamespace(nodeid="programs/test_queue.py::test_mail")]
    campaign.pytest_collection_modifyitems(SimpleNamespace(), items)
    report = {"nodeid": items[0].nodeid, "outcome": "passed", "longrepr": None}
    campaign.pytest_runtest_logreport(SimpleNamespace(when="setup", user_properties=[], **report))
    assert campaign.cells["queue: mail", 0].verdict == right["NEVER"]
    campaign.pytest_runtest_logreport(SimpleNamespace(when="call", user_properties=[("runs", 8)], **report))
    assert campaign.cells["queue: mail", 0][:2] == ("8", right["RIGHT"])
