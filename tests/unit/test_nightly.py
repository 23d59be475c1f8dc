"""The nightly run: its page keeps what each step came to, and all limits together are bounded."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nightly() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/nightly.py"))


def test_the_page_in_the_repository_is_what_its_own_rows_make(nightly: dict[str, Any]) -> None:
    text = nightly["PAGE"].read_text(encoding="utf-8")
    assert nightly["page"](nightly["kept_rows"](text)) == text


def test_the_steps_end_within_the_night(nightly: dict[str, Any]) -> None:
    assert sum(step.minutes for step in nightly["STEPS"]) <= nightly["HOURS"] * 60


@pytest.mark.parametrize(
    ("command", "result"),
    [("true", "pass"), ("exit 3", "exit code 3"), ("sleep 600 & sleep 600", "not done in 0 minutes")],
)
def test_a_step_says_what_it_came_to(nightly: dict[str, Any], command: str, result: str) -> None:
    ended = nightly["run"](nightly["Step"]("one", command, 0 if "sleep" in command else 1))
    assert ended.result == result
