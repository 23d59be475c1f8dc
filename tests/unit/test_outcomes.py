"""What a queue makes of outcomes that are hard to store: a right one keeps or refuses them, a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.core.history.outcome import Outcome
from job_harness.core.port import Claim
from job_harness.doors.cli import main
from job_harness.engines.conformance.outcomes import CASES, ask_engine
from job_harness.engines.memory import MemoryEngine, MemoryQueue


class ChokingQueue(MemoryQueue):
    """Records no error with a character that is hard to store, and loses what is returned."""

    def fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        if not error.isprintable():
            raise RuntimeError("no such text")
        return super().fail(claim, error, final)

    def complete(self, claim: Claim, output: object) -> Outcome:
        return super().complete(claim, None)


class ChokingEngine(MemoryEngine):
    def open(self, settings: object, clocks: object, jitter: object) -> MemoryQueue:
        return ChokingQueue(settings, clocks, jitter)  # type: ignore[arg-type]


def words(engine: MemoryEngine) -> dict[str, str]:
    return {name: ask_engine(engine, case).word for name, case in CASES.items()}


def test_the_model_queue_keeps_or_refuses_what_is_hard_to_store() -> None:
    found = words(MemoryEngine())
    assert {found.pop(name) for name in ("raise huge", "return huge")} == {"kept"}
    assert {word for name, word in found.items() if name.startswith("raise")} == {"changed"}
    assert {word for name, word in found.items() if name.startswith("return")} == {"refused"}


def test_a_queue_that_loses_outcomes_is_found() -> None:
    found = words(ChokingEngine())
    assert found["raise NUL"] == found["raise surrogate"] == "outcome lost"
    assert found["return huge"] == "lost"


NO_QUEUES = """
from job_harness import Outcome
from job_harness.engines.memory import MemoryEngine, MemoryQueue

class Refuses(MemoryQueue):
    def claim(self, *given, **more):
        return Outcome.refused("closed")

class Breaks(MemoryQueue):
    def claim(self, *given, **more):
        raise RuntimeError("no such table")

def refuses():
    return MemoryEngine(Refuses, name="refuses")

def breaks():
    return MemoryEngine(Breaks, name="breaks")
"""


@pytest.mark.parametrize(("made", "code", "told"), [("refuses", 2, "gave w1 no job"), ("breaks", 4, "no such table")])
def test_an_engine_that_hands_out_no_job_is_named_and_the_others_are_asked(
    made: str, code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(NO_QUEUES, encoding="utf-8")
    assert main(["conform", f"own.py:{made},memory", "--outcomes", "raise NUL"]) == code
    shown = capsys.readouterr().out
    assert f"own.py:{made}: not asked: " in shown
    assert told in shown
    assert "memory, raise NUL: changed" in shown


def test_the_command_prints_a_table_or_the_story_of_one_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "memory,reference", "--outcomes"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["outcome", "memory", "reference"]
    assert table[1].split() == ["raise", "NUL", "changed", "changed"]
    assert main(["conform", "memory", "--outcomes", "raise NUL"]) == 0
    assert "memory, raise NUL: changed\n  fail (an error whose text holds U+0000): done\n" in capsys.readouterr().out
    assert main(["conform", "memory", "--outcomes", "raise nul"]) == 2
    assert "no such outcome: 'raise nul'" in capsys.readouterr().err
    assert main(["conform", "memory", "--outcomes", "--json", "x.json", "--quiet"]) == 2
    assert "runs no cases: --json, --quiet would do nothing" in capsys.readouterr().err
