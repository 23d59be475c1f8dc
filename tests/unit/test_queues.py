"""The queues in `queues/`: each folder says what it is and where it promises what, and the table has its page."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.invariants.property import Guarantee
from job_harness.engines.queue_file.document import VERBS, read_queue_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from queues.catalogue import COLUMNS, AboutError, QueueAbout, QueueTarget, catalogue, read, target_of  # noqa: E402
from queues.judged import JudgedColumn, QueueFinding, reason_of  # noqa: E402
from queues.package import Package, RecipeOutdated, replaced, with_parameters, with_values  # noqa: E402
from queues.page import INDEX, index, marks_of, page  # noqa: E402

ABOUTS = catalogue()
MODELLED = [about for about in ABOUTS if about.kind == "modelled"]


def test_there_are_enough_queues_and_most_are_real() -> None:
    assert len(ABOUTS) >= 12
    assert len(ABOUTS) - len(MODELLED) >= 10
    assert len(MODELLED) <= 3


@pytest.mark.parametrize("about", ABOUTS, ids=lambda about: about.name)
def test_a_queue_says_what_runs_and_why_under_which_settings(about: QueueAbout) -> None:
    assert set(about.why) == set(COLUMNS)
    sources = [bool(about.engine), (about.folder / "recipe.py").exists(), (about.folder / "queue.yaml").exists()]
    assert sources.count(True) == 1
    assert about.index in ({"PyPI", "npm", "Debian"} if about.kind == "real" else {""})
    assert all((*about.promises.values(), *about.documented.values()))


@pytest.mark.parametrize("about", ABOUTS, ids=lambda about: about.name)
def test_a_page_says_whether_its_queue_is_real_and_is_in_the_table(about: QueueAbout) -> None:
    text = (about.folder / "README.md").read_text(encoding="utf-8")
    assert f", {about.kind}, searched with seed" in text
    assert len(marks_of(text)) >= len(about.promises)
    assert f"({about.name}/README.md) | " in INDEX.read_text(encoding="utf-8")


def test_the_table_is_what_its_pages_make() -> None:
    pages = {about.name: (about.folder / "README.md").read_text(encoding="utf-8") for about in ABOUTS}
    assert index(ABOUTS, pages) == INDEX.read_text(encoding="utf-8")


@pytest.mark.parametrize("about", MODELLED, ids=lambda about: about.name)
def test_each_statement_of_a_model_names_the_place_that_it_stands_for(about: QueueAbout) -> None:
    file = about.folder / "queue.yaml"
    text = file.read_text(encoding="utf-8")
    read_queue_file(str(file))
    assert re.search(r"\b[0-9a-f]{40}\b", text)
    keys = [key for key in VERBS if re.search(rf"^{key}:", text, re.MULTILINE)]
    blocks = re.split(r"\n\n(?=#|[a-z]+:)", text)
    for key in keys:
        block = next(block for block in blocks if re.search(rf"^{key}:", block, re.MULTILINE))
        before = "\n\n".join(blocks[: blocks.index(block) + 1])
        assert "#" in block or before.rstrip().endswith(block.rstrip()), key
    assert len(re.findall(r"^# .*(:\d+|\.rb)", text, re.MULTILINE)) >= 4


def test_a_promise_that_nothing_names_is_refused(tmp_path: Path) -> None:
    told = "title: A\nkind: real\nreads: x\npromises: {NO_SUCH: README}\n"
    (tmp_path / "about.yaml").write_text(told, encoding="utf-8")
    with pytest.raises(AboutError, match="there is no guarantee NO_SUCH"):
        read(tmp_path)
    (tmp_path / "about.yaml").write_text("title: A\nkind: real\nreads: x\npromised: {}\n", encoding="utf-8")
    with pytest.raises(AboutError, match="unknown key promised"):
        read(tmp_path)


def test_a_recipe_notices_when_a_package_has_another_statement(tmp_path: Path) -> None:
    assert with_parameters("a = %(id)s", {"id": ":job"}) == "a = :job"
    assert with_values("f(%s, %s)", ":job", "0") == "f(:job, 0)"
    package = Package("a", "1.0", tmp_path)
    (tmp_path / "a.py").write_text('A = "SELECT 1"\n', encoding="utf-8")
    assert package.one("a.py", r'A = "(.*?)"') == "SELECT 1"
    for outdated in (
        lambda: with_parameters("a = %(id)s AND b = %(now)s", {"id": ":job"}),
        lambda: with_parameters("a = 1", {"id": ":job"}),
        lambda: with_values("f(%s)", ":job", "0"),
        lambda: replaced("a a", "a", "b"),
        lambda: package.one("a.py", r'B = "(.*?)"'),
        lambda: package.text("b.py"),
    ):
        with pytest.raises(RecipeOutdated):
            outdated()


def test_a_mark_says_what_was_promised_and_what_was_seen(tmp_path: Path) -> None:
    about = QueueAbout(
        "a", "A", "real", "its code", "a", "PyPI", {}, {}, dict.fromkeys(COLUMNS, "so"),
        {Guarantee.AT_LEAST_ONCE: "README", Guarantee.SCHEDULE: "README", Guarantee.FENCING: "README",
         Guarantee.CANCELLATION: "README"},
        {Guarantee.SCHEDULE: "README, Limits"}, 10, "", "",
    )  # fmt: skip
    found = (QueueFinding("job_stuck", "it never ended", (("t+0s", "w1", "dies"),), ("One fault.",), ("lease 1h",)),)
    target = QueueTarget(
        "a@1", "1", documented=((Guarantee.FENCING, "README, Tokens"),), untried=frozenset({Guarantee.CANCELLATION})
    )
    risk = (replace(found[0], anomaly="outcome_lost"),)
    lost = {Guarantee.AT_LEAST_ONCE: found, Guarantee.SCHEDULE: found, Guarantee.ISOLATION: found}
    column = JudgedColumn(target, lost, runs=10, seconds=3)
    marks = {guarantee: column.mark(about, guarantee) for guarantee in Guarantee}
    assert marks[Guarantee.AT_LEAST_ONCE] == "broken"
    assert marks[Guarantee.SCHEDULE] == "documented"
    assert marks[Guarantee.ISOLATION] == "found"
    assert marks[Guarantee.FENCING] == "kept in part"
    assert marks[Guarantee.CANCELLATION] == "not tried"
    assert marks[Guarantee.UNIQUENESS] == "not promised"
    assert JudgedColumn(target).mark(about, Guarantee.AT_LEAST_ONCE) == "kept"
    for findings, mark in ((risk, "at risk"), ((*risk, *found), "broken")):
        assert JudgedColumn(target, {Guarantee.AT_LEAST_ONCE: findings}).mark(about, Guarantee.AT_LEAST_ONCE) == mark
    assert JudgedColumn(target, problem="no npm").mark(about, Guarantee.AT_LEAST_ONCE) == "not judged"
    stuck = replace(column, findings={Guarantee.AT_LEAST_ONCE: found})
    text = page(about, dict.fromkeys(COLUMNS, stuck), date="2026-12-01")
    assert marks_of(text)[Guarantee.AT_LEAST_ONCE.value] == ("broken", "broken")
    assert set(marks_of(text)) <= {guarantee.value for guarantee in Guarantee}
    assert "Healed by: lease 1h." in text
    assert text.count("## ") == text.count("## job_stuck, default and recommended settings") == 1
    assert "Command: `make queues ARGS=a`, 3 s." in text, "one search that serves both columns counts once"


def test_what_stopped_a_search_is_its_verdict_and_not_its_progress() -> None:
    progress = "job-harness: 3 of 4 runs (240 s)\n"
    assert reason_of("inconclusive: no anomaly in 4 runs\n", progress) == "inconclusive: no anomaly in 4 runs"
    cut = "Cut: 1 of 4 runs were still at work,\n  and the rest was not judged.\n"
    assert reason_of(f"inconclusive: no anomaly\n{cut}Guarantees: none broke.", "") == (
        "inconclusive: no anomaly Cut: 1 of 4 runs were still at work, and the rest was not judged."
    )
    assert reason_of("", f"{progress}job-harness: npm is not on the PATH\n") == "job-harness: npm is not on the PATH"
    assert reason_of("", progress) == "it ended without a word"


def test_a_modelled_queue_is_searched_as_it_is_written(tmp_path: Path) -> None:
    about = MODELLED[0]
    target = target_of(about, "default", into=tmp_path)
    assert Path(target.target).read_bytes() == (about.folder / "queue.yaml").read_bytes()
    assert target.release == about.source
