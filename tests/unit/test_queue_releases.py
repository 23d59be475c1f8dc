"""`make queues ARGS="NAME --releases ..."` says where a promise began or ended."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.invariants.property import Guarantee

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from queues import __main__ as command
from queues.catalogue import QueueAbout, QueueTarget, catalogue
from queues.judged import JudgedColumn, QueueFinding

LOST = {Guarantee.FENCING: (QueueFinding("stale_complete", "late", (), (), ()),)}
OF_RELEASE = {
    "1.0": JudgedColumn(QueueTarget("q@1.0", "1.0"), LOST, 8, 3),
    "1.1": JudgedColumn(QueueTarget("q@1.1", "1.1"), problem="it did not end"),
    "1.2": JudgedColumn(QueueTarget("q@1.2", "1.2"), {}, 8, 3),
    "2.0": JudgedColumn(QueueTarget("q@2.0", "2.0"), LOST, 8, 3),
}


@pytest.fixture
def about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueueAbout:
    one = replace(catalogue(("chancy",))[0], name="q")
    (tmp_path / "q").mkdir()
    monkeypatch.setattr("queues.catalogue.FOLDER", tmp_path)
    monkeypatch.setattr(
        command, "target_of", lambda about, column, *, into, release: QueueTarget(f"q@{release}", release)
    )
    monkeypatch.setattr(command, "search", lambda about, target, *, into, runs: OF_RELEASE[target.release])
    return one


def test_a_table_over_releases_says_where_a_guarantee_was_lost_and_from_when_on(
    about: QueueAbout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.over_releases(about, list(OF_RELEASE), runs=None) == 1
    page = (about.folder / "releases.md").read_text()
    fencing = Guarantee.FENCING.value
    assert "| guarantee | 1.0 | 1.1 | 1.2 | 2.0 |" in page
    assert f"| {fencing} | stale_complete | not judged | · | stale_complete |" in page
    turned = [f"{fencing}: not seen lost from 1.2 on, lost in 1.0"]
    turned += [f"{fencing}: lost from 2.0 on, not seen lost in 1.2"]
    printed = capsys.readouterr().out
    assert all(f"- {line}" in page and line in printed for line in turned)
    assert "Not judged, 1.1: it did not end." in page


def test_releases_that_all_do_the_same_say_so(about: QueueAbout, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.over_releases(about, ["1.0", "2.0"], runs=None) == 0
    assert "no difference between these releases" in capsys.readouterr().out
