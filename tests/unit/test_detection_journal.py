"""A measurement that was stopped goes on where it was, and never mixes two versions of the code."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from detection import journal, page
from detection.coverage import TOUCHES, expected
from detection.journal import Journal, Question
from detection.measure import Quiet, quiet

from job_harness.engines.memory import MemoryQueue
from job_harness.search.wrong_queues import CATALOGUE as MISTAKES
from job_harness.search.wrong_queues import BlindSpot

ASKED: list[int] = []


@dataclass(frozen=True)
class Square:
    of: int
    is_: int


def square(number: int) -> Square:
    ASKED.append(number)
    return Square(number, number * number)


def ask(path: Path, numbers: range) -> list[Square]:
    ASKED.clear()
    with ThreadPoolExecutor(1) as pool:
        answers: list[Square] = Journal.opened(path).ask(pool, [Question(square, (n,), answer=Square) for n in numbers])
    return answers


def test_what_was_measured_is_not_measured_again_even_where_the_last_line_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "measured.jsonl"
    assert ask(path, range(3)) == [Square(0, 0), Square(1, 1), Square(2, 4)]
    path.write_text(path.read_text(encoding="utf-8")[:-5], encoding="utf-8")

    assert ask(path, range(4)) == [Square(0, 0), Square(1, 1), Square(2, 4), Square(3, 9)]
    assert len(ASKED) == 2, "the one that was cut off, and the new one"
    ask(path, range(4))
    assert ASKED == []


def test_other_code_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "measured.jsonl"
    ask(path, range(2))
    monkeypatch.setattr(journal, "fingerprint", lambda: "another")

    ask(path, range(2))

    assert ASKED == [0, 1]


def test_the_gate_stands_once_on_the_page() -> None:
    table = page.gate({"stale-fail": [3, None]}, "## Blind spots\n", runs=10, date="today")
    text = "# Title\n\n## What is missed, and why\n\nrest\n"

    once = page.with_part(text, table)

    assert "| `stale-fail` | 1/2 |" in once
    assert page.with_part(once, table) == once
    assert once.endswith("rest\n")


def test_every_blind_spot_has_wrong_queues_and_runs_of_a_right_queue_that_went_there() -> None:
    stands = {mistake.stands_for for mistake in MISTAKES.values()}
    excused = [name for name, mistake in MISTAKES.items() if mistake.documented]
    assert stands == {None, *BlindSpot}
    assert {*TOUCHES, *(MISTAKES[name].stands_for for name in excused)} == set(BlindSpot)

    table = page.spots({"stale-complete": [3, None]}, Quiet(2, 90, [], {BlindSpot.RARE_WINDOWS: 1}, {}), {})

    assert f"| {BlindSpot.RARE_WINDOWS} | `stale-complete` (1/2, inf) | 1 | 0 |" in table


def test_a_pair_of_capability_and_setting_that_no_run_had_is_named() -> None:
    measured = quiet("memory", number=0, runs=4)
    rows = expected(MemoryQueue.capabilities)

    table, empty = page.quiet_table("memory", measured, rows)

    assert f"memory: {measured.steps} steps in 4 runs, 0 false alarms" in table
    assert "heartbeat, lease kept by beats" in empty
    pairs = [f"{row}, {column}" for row, columns in rows for column in columns]
    full = replace(measured, cells=dict.fromkeys(pairs, 1))
    assert page.quiet_table("memory", full, rows)[1] == []
