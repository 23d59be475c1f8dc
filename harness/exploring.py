"""`pytest --job-explore` and `--job-replay`: a test of `job_harness` as a campaign, told in pytest's words.

How a test is played in a forked child and what disturbs it is `processors.exploration`'s work; how a run is shown, the
report's.
"""

from __future__ import annotations

import hashlib
import inspect
import shlex
from dataclasses import dataclass
from typing import Any, cast

import pytest

from harness.errors import HarnessError, UsageError
from harness.history.jsonl import dump_history
from harness.model.duration import SECOND, parse_duration
from harness.processors.exploration import InChild, PlayedTest, TestExploration, can_fork
from harness.processors.job_harness import JobHarness
from harness.report.screen import first_screen, screen_text
from harness.scenario.replay_token import ReplayToken, decode, encode
from harness.sim.choices import Tape

__all__ = ["ExploredTest", "InChild"]

RUNS = 200
EXPLORED = "job-harness: explored"
"""The section of a report that tells what a campaign came to."""


@dataclass(slots=True)
class ExploredTest:
    """One test item, the bounds of its campaign, and the tape that it is to play instead."""

    item: pytest.Function
    campaign: TestExploration
    tape: Tape | None = None

    @classmethod
    def of(cls, item: pytest.Function, *, option: str | None, token: str | None, marker: Any) -> ExploredTest:
        """Read what was asked for. Fails the test, in words, where that makes no sense."""
        try:
            runs, seconds = _bounds(option, marker)
            harness = cast(JobHarness, item.funcargs["job_harness"])
            seed = item.config.getoption("--job-seed") or 0
            explored = cls(item, TestExploration(harness, runs=runs, seconds=seconds, seed=seed))
            if token is not None:
                read = decode(token)
                read.expect(_target(item), called=item.nodeid)
                explored.tape = read.tape
            elif why := harness.unforkable:
                explored.campaign.unsure = why
            elif not can_fork():
                raise UsageError("--job-explore forks each run, and this system cannot", hint="Explore on Linux.")
        except HarnessError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        return explored

    def explore(self) -> None:
        """Play the test many times, or set it up to play the tape. Raises InChild in every child."""
        if self.tape is not None:
            self.campaign.replay(self.tape)
        elif not self.campaign.unsure:
            self.campaign.explore()

    def tell(self) -> None:
        """Fail the test with what was found; skip it, with the reason, where nothing could be judged."""
        campaign = self.campaign
        if self.tape is not None:
            self._tell_replayed(self.tape)
            return
        disturbed = max(0, campaign.played - 2)
        rate = f"{disturbed / campaign.spent:.0f} runs/s" if campaign.spent else ""
        lost = [f"{count} told nothing: {why}" for why, count in campaign.lost.items()]
        self.item.add_report_section("call", EXPLORED, "\n".join([f"{disturbed} disturbed runs ({rate})", *lost]))
        if campaign.unsure:
            pytest.skip(f"inconclusive: {campaign.unsure}")
        if campaign.finding is None and disturbed and sum(campaign.lost.values()) == disturbed:
            pytest.skip(f"inconclusive: no run was judged; {lost[0]}")
        if campaign.finding is not None:
            pytest.fail(self._screen(), pytrace=False)

    def _tell_replayed(self, tape: Tape) -> None:
        harness = self.campaign.harness
        harness.come_to_rest()
        if missing := [deviation for deviation in tape if deviation not in harness.tape]:
            told = "; ".join(map(str, missing))
            pytest.skip(f"inconclusive: the token no longer fits this test: {told} never came up")
        if harness.anomalies:
            seen = PlayedTest(harness.anomalies, harness.tape, dump_history(harness.history), now=harness.now_instant)
            pytest.fail(self._shown(seen), pytrace=False)

    def _screen(self) -> str:
        finding = self.campaign.finding
        assert finding is not None
        return f"{self._shown(finding.played)}\nFound in {finding.runs} runs; shrunk in {finding.shrink_runs} runs."

    def _shown(self, seen: PlayedTest) -> str:
        harness, anomaly = self.campaign.harness, seen.anomalies[0].name
        title = f"{anomaly} in {self.item.name}"
        run = seen.run(title=title, settings=harness.settings, engine=harness.engine)
        token = encode(ReplayToken(_target(self.item), self.campaign.seed, seen.tape))
        command = f"pytest {shlex.quote(self.item.nodeid)} --job-replay {token}"
        return screen_text(first_screen(run, title=title, replay=command, lead=anomaly)).rstrip()


def _bounds(option: str | None, marker: Any) -> tuple[int, float | None]:
    runs, seconds = RUNS, None
    if marker is not None:
        if marker.args or set(marker.kwargs) - {"runs", "seconds"}:
            raise UsageError(
                f"job_explore takes runs and seconds by name, not {marker.args or sorted(marker.kwargs)}",
                hint="Write @pytest.mark.job_explore(runs=200).",
            )
        runs, seconds = marker.kwargs.get("runs", RUNS), marker.kwargs.get("seconds")
    if option:
        if option.isascii() and option.isdigit():
            runs, seconds = int(option), None
        else:
            runs, seconds = 1_000_000, parse_duration(option) / SECOND
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise UsageError(f"job_explore: runs must be at least 1, not {runs!r}")
    return runs, seconds


def _target(item: pytest.Function) -> str:
    """Return the digest of what a token is of: the test by its name and its source."""
    try:
        source = inspect.getsource(item.function)
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(f"{item.name}\0{source}".encode()).hexdigest()[:12]
