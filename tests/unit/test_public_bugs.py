"""How public bugs are looked for and told: which finding counts, how far a fixed release is searched, the page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import Scenario

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # what is measured there is no part of the package

from detection.bugs import ELSEWHERE, PLANTED  # noqa: E402 - the path comes first
from public_bugs import page, shapes  # noqa: E402
from public_bugs.catalogue import ENTRIES, UNTRIED, named  # noqa: E402
from public_bugs.entry import Entry  # noqa: E402
from public_bugs.measure import Measured, measure, wanted  # noqa: E402
from public_bugs.search import Answer, NotRun, Search, answered, search  # noqa: E402

NUL = Scenario(jobs=(JobPlan("a", outcomes=(Ending.RAISE_NUL, Ending.SUCCEED)),))
OTHER = Scenario(jobs=(JobPlan("a", outcomes=(Ending.FAIL,)),))
ENTRY = Entry(
    bug="some-bug",
    known_as="queue#1",
    url="https://example.org/1",
    about="forgets",
    affected="queue@1",
    fixed="queue@2",
    anomalies=("outcome_lost",),
    runs=100,
    seconds=60,
    shape=shapes.NUL,
)


class Told:
    """Returns in order, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, words: Sequence[str], seconds: float) -> Answer:
        self.asked.append(list(words))
        return self.answers.pop(0)


def looked(*answers: Answer, entry: Entry = ENTRY) -> tuple[Search, list[list[str]]]:
    told = Told(*answers)
    return search(entry, entry.affected, seed=0, runs=entry.runs, seconds=entry.seconds, ask=told), told.asked


def test_a_search_is_the_command_of_a_user() -> None:
    found, asked = looked(Answer(7, 2.0, "outcome_lost", NUL), entry=replace(ENTRY, options=("--steps", "600")))

    assert asked == [
        ["queue@1", "--steps", "600", "--looking-for", "outcome_lost", "--seed", "0", "--runs", "100", "--time", "60"],
    ]
    assert (found.anomaly, found.runs, found.seconds) == ("outcome_lost", 7, 2.0)


def test_another_bug_with_the_same_anomaly_costs_its_runs_and_does_not_count() -> None:
    found, asked = looked(Answer(30, 5.0, "outcome_lost", OTHER), Answer(4, 1.0, "outcome_lost", NUL))

    assert (found.runs, found.seconds, found.others) == (34, 6.0, 1)
    assert asked[1][-6:] == ["--seed", "1000", "--runs", "70", "--time", "55"]


def test_a_scenario_that_was_not_written_is_not_taken_for_the_bug() -> None:
    found, _ = looked(Answer(100, 5.0, "outcome_lost", None))

    assert found.anomaly is None


def test_a_run_that_does_not_end_costs_its_seed_only() -> None:
    found, _ = looked(Answer(60, 5.0, trouble="run 60: no rest"), Answer(40, 5.0))

    assert (found.anomaly, found.runs, found.troubles) == (None, 100, ["run 60: no rest"])


@pytest.mark.parametrize("answer", [Answer(100, 5.0), Answer(20, 60.0)], ids=["runs", "seconds"])
def test_a_search_ends_with_its_runs_and_its_seconds(answer: Answer) -> None:
    found, asked = looked(answer)

    assert found.anomaly is None
    assert len(asked) == 1


def test_the_fixed_release_is_given_the_same_seeds_and_more_runs() -> None:
    seeds = [
        Search("queue@1", 0, runs=40, anomaly="outcome_lost"),
        Search("queue@1", 1, runs=2, anomaly="outcome_lost"),
    ]
    assert wanted([*seeds, Search("queue@1", 2, runs=100)]) == [120, 17, 17]

    told = Told(Answer(40, 1.0, "outcome_lost", NUL), Answer(120, 2.0))
    measured = measure(ENTRY, seeds=1, ask=told)

    assert told.asked[1] == [
        "queue@2",
        "--looking-for",
        "outcome_lost",
        "--seed",
        "0",
        "--runs",
        "120",
        "--time",
        "180",
    ]
    assert [item.anomaly for item in measured.fixed] == [None]


def test_a_bug_that_was_not_found_is_not_looked_for_where_it_is_fixed() -> None:
    told = Told(Answer(100, 5.0))

    assert measure(ENTRY, seeds=1, ask=told).fixed == []
    assert len(told.asked) == 1


def test_an_engine_that_cannot_be_opened_is_said_in_the_row() -> None:
    def refuse(words: Sequence[str], seconds: float) -> Answer:
        raise NotRun("no Node\nis here")

    assert page.row(measure(ENTRY, seeds=3, ask=refuse))[4] == "no Node is here"


def test_what_the_command_wrote_is_read(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "runs": 9,
        "seconds": 1.5,
        "trouble": None,
        "unsteady": "it differs",
        "findings": [],
        "cut": 2,
    }
    assert answered(data, tmp_path / "none.yaml") == Answer(9, 1.5, trouble="it differs", cut=2)

    found = [{"anomaly": "outcome_lost", "found_after_runs": 3}]
    assert answered({**data, "findings": found}, tmp_path / "none.yaml") == Answer(3, 1.5, "outcome_lost", cut=2)


def found_in(runs: int) -> Measured:
    return Measured(
        ENTRY,
        [Search("queue@1", 1, runs=runs, seconds=8.4, anomaly="outcome_lost"), Search("queue@1", 2, runs=100)],
        [Search("queue@2", 1, runs=3 * runs, others=1)],
    )


def test_a_row_says_where_it_was_found_and_where_not() -> None:
    assert page.row(found_in(12))[3:] == (
        "`outcome_lost`", "1/2", "12", "8", "queue@2", "not in 36 runs; 1 times another bug",
        "`job-harness explore queue@1 --looking-for outcome_lost --seed 1`",
    )  # fmt: skip


def test_a_bug_found_again_where_it_is_said_to_be_fixed_is_told() -> None:
    again = Measured(ENTRY, found_in(12).affected, [Search("queue@2", 1, runs=3, anomaly="outcome_lost")])

    text = page.written([ENTRY], [again], untried={})

    assert "**found again** in 1/1" in text
    assert "1 were found. 0 of these are gone" in text


def test_a_page_keeps_the_rows_that_were_not_measured_anew() -> None:
    other = replace(ENTRY, bug="other-bug", fixed=None)
    first = page.written([ENTRY, other], [found_in(12)], untried={"third": "no engine"})
    assert "Of 2 rows 1 were found. 1 of these are gone in the release that fixed them; no release fixes 0." in first
    assert "- `third`: no engine" in first

    found = Measured(other, [Search("queue@1", 0, runs=5, seconds=1, anomaly="outcome_lost")])
    second = page.written([ENTRY, other], [found], untried={}, before=first)

    assert "| 1/2 | 12 | 8 | queue@2 | not in 36 runs; 1 times another bug |" in second
    assert "Of 2 rows 2 were found. 1 of these are gone in the release that fixed them; no release fixes 1." in second
    assert page.written([ENTRY, other], [], untried={}, before=second) == second


def test_a_row_of_an_entry_that_is_gone_goes_too() -> None:
    before = page.written([ENTRY], [found_in(12)], untried={})

    assert "some-bug" not in page.written([replace(ENTRY, bug="other-bug")], [], untried={}, before=before)


def test_every_public_bug_with_a_wrong_queue_is_looked_for_or_said_not_to_be() -> None:
    tried = {entry.bug for entry in ENTRIES}

    assert tried | set(UNTRIED) == set(PLANTED) | set(ELSEWHERE)
    assert not tried & set(UNTRIED)
    assert len({entry.key for entry in ENTRIES}) == len(ENTRIES)


def test_only_what_was_asked_for_is_measured_and_a_name_of_nothing_is_refused() -> None:
    assert {entry.bug for entry in named(["pgqueuer-stale"])} == {"pgqueuer-stale-blocked-by-own-slot"}
    with pytest.raises(SystemExit, match="no entry has 'pgquer'"):
        named(["pgquer"])


def test_the_page_is_laid_out_by_its_command() -> None:
    text = (ROOT / "benchmarks/results/public_bugs.md").read_text(encoding="utf-8")

    assert page.written(ENTRIES, [], untried=UNTRIED, before=text) == text, (
        "run .venv/bin/python benchmarks/public_bugs/__main__.py --page"
    )


@pytest.mark.parametrize(
    ("shape", "has", "has_not"),
    [
        (shapes.NUL, NUL, OTHER),
        (shapes.FAILURE, OTHER, Scenario(jobs=(JobPlan("a"),))),
        (
            shapes.SHARED_KEY,
            Scenario(jobs=(JobPlan("a", unique_key="k"), JobPlan("b", unique_key="k"))),
            Scenario(jobs=(JobPlan("a", unique_key="k"), JobPlan("b", unique_key="l"))),
        ),
        (shapes.LIMIT, Scenario(settings=Scenario().settings.changed(tool_concurrency=1)), Scenario()),
    ],
    ids=["NUL", "failure", "shared key", "limit"],
)
def test_a_shape_tells_its_bug_from_others(shape: Any, has: Scenario, has_not: Scenario) -> None:
    assert shape.holds(has)
    assert not shape.holds(has_not)
