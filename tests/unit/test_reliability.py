"""The proofs of `make reliability` can fail: what is lost, wrong or not tried at all is no proof."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("reliability.kills")


def row(number: int, *, status: str = "COMPLETED", square: int | None = None) -> tuple[Any, ...]:
    output = json.dumps({"n": number, "square": number**2 if square is None else square})
    return (f"id{number}", status, json.dumps({"n": number}), output, 1)


def test_every_way_to_break_the_promise_is_counted(kills: Any) -> None:
    load = kills.Load(acknowledged={1: "id1", 2: "id2"}, asked=3)
    whole, runs, died = [row(1), row(2)], Counter({1: 1, 2: 2}), Counter({"API": 1})

    held = kills._judged(load, died, 9.0, whole, runs)
    assert held.held
    assert "1 kills in 9 s (API 1). 2 of 2 jobs were done as promised." in held.result
    assert not kills._judged(load, died, 9.0, whole[:1], runs).held
    assert not kills._judged(load, died, 9.0, [row(1), row(2, status="FAILED")], runs).held
    assert not kills._judged(load, died, 9.0, [row(1), row(2, square=5)], runs).held
    assert not kills._judged(load, died, 9.0, whole, Counter({1: 1})).held
    assert not kills._judged(load, died, kills.LONGEST_SECONDS + 1, whole, runs).held
    assert not kills._judged(load, Counter(), 9.0, whole, runs).held
    assert not kills._judged(kills.Load(), died, 9.0, [], Counter()).held


def test_the_page_says_what_did_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    page, size = importlib.import_module("reliability.page"), importlib.import_module("reliability.size")
    proofs = [size.Proof("Kills", "About.", ("what", "count"), (("lost", "1"),), "One was lost.", held=False)]
    text = page.written(proofs, command="make it", date="2030-01-01", machine="a machine", minutes=1.0)
    assert "| [Kills](#kills) | **no** | One was lost. |" in text
    assert "| lost | 1 |" in text

    other = size.Proof("Fuzzed", "About.", ("what", "count"), (("inputs", "9"),), "9 inputs.", held=True)
    whole = page.written([*proofs, other], command="make it", date="2030-01-01", machine="a machine", minutes=1.0)
    better = size.Proof("Kills", "About.", ("what", "count"), (("lost", "0"),), "None was lost.", held=True)
    again = page.renewed(whole, better, command="make it again", date="2030-01-02")
    assert "| [Kills](#kills) | yes | None was lost. |" in again
    assert "| lost | 0 |\n\nMeasured again on 2030-01-02 by `make it again`.\n\n## Fuzzed\n" in again
    assert again.replace("\n\nMeasured again on 2030-01-02 by `make it again`.", "").count("\n") == whole.count("\n")
