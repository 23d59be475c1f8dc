"""`--time` holds within a tenth, by a clock that stands still but for what verbs cost; progress is told."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job_harness.doors.cli import explore_command, main, search
from job_harness.search import cases, watchdog
from job_harness.search.watchdog import SearchTime

LIMIT = 60.0
TARGET = """
from job_harness.core.model.lifecycle import Status
from job_harness.engines.memory import MemoryQueue
from tests.unit.test_time_of_search import CLOCK

class Slow(MemoryQueue):
    def claim(self, *arguments, **options):
        CLOCK.spend(CLOCK.cost)
        return super().claim(*arguments, **options)

    def complete(self, claim, output):
        done = super().complete(claim, output)
        if CLOCK.now > CLOCK.breaks_at and claim.attempt == 1:
            self.put(self.rows[claim.job]._replace(status=Status.PENDING))
        return done
"""


class Clock:
    """Counts what verbs cost, and lets the search look at it as often as its thread does."""

    def __init__(self) -> None:
        self.now = self.breaks_at = 0.0
        self.cost = 0.1  # A run may have some 40 claims, and one that is played to be shown is not cut.
        self.search: SearchTime | None = None

    def spend(self, seconds: float) -> None:
        """Let so much pass."""
        self.now += seconds
        if self.search is not None:
            self.search.look()


CLOCK = Clock()


class CountedDeadline:
    """A deadline by that clock."""

    def __init__(self, seconds: float) -> None:
        self._end = CLOCK.now + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - CLOCK.now)

    @property
    def passed(self) -> bool:
        return not self.left


class CountedTime(SearchTime):
    """Is looked at by the clock alone."""

    def __enter__(self) -> SearchTime:
        CLOCK.search = self
        return self


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watchdog, "Deadline", CountedDeadline)
    monkeypatch.setattr(cases, "SearchTime", CountedTime)
    monkeypatch.setattr(explore_command, "SearchTime", CountedTime)
    monkeypatch.setattr(CLOCK, "now", 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(TARGET, encoding="utf-8")


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("breaks_at", [0.0, 0.5 * LIMIT, 0.98 * LIMIT, LIMIT])
def test_a_search_and_what_it_shows_end_within_a_tenth_of_its_time(
    breaks_at: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CLOCK, "breaks_at", breaks_at)
    code = main(["explore", "slow.py:Slow", "--time", f"{LIMIT:g}", "--keep-going", "--runs", "100000"])
    told = capsys.readouterr().out
    assert CLOCK.now <= 1.1 * LIMIT + 0.2
    if breaks_at < LIMIT:
        assert (code, "illegal_transition: " in told) == (1, True), "what was seen is shown"
    assert "nothing that can be shown" not in told


@pytest.mark.usefixtures("counted")
def test_what_is_found_on_the_way_leaves_two_thirds_of_the_time_to_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shrunk: list[float] = []

    @contextmanager
    def timed(self: SearchTime) -> Iterator[None]:
        begun = CLOCK.now
        with SearchTime.making_smaller(self):
            yield
        shrunk.append(CLOCK.now - begun)

    monkeypatch.setattr(CLOCK, "cost", 0.002)
    monkeypatch.setattr(CountedTime, "making_smaller", timed, raising=False)
    assert main(["explore", "slow.py:Slow", "--time", "6", "--keep-going", "--runs", "100000"]) == 1
    assert "illegal_transition: " in capsys.readouterr().out
    assert 0 < sum(shrunk) <= 6 / 3 + 0.2 * len(shrunk)


@pytest.mark.parametrize("terminal", [True, False])
def test_how_far_a_search_is_stands_on_a_terminal_and_in_a_log(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            if "run 3 of 9" in text:
                written.set()
            return super().write(text)

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(search, "LINE_EVERY", 0.001)
    monkeypatch.setenv("TERM", "xterm")
    with search.progress_bar(measured=True) as advance:
        advance("run 3 of 9", 1 / 3)
        assert written.wait(60)
    assert ("job-harness: run 3 of 9 (" in screen.getvalue()) is not terminal
