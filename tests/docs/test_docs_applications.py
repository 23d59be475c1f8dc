"""The application on its page is the one that the scenarios run, and wrapping it is as short as it says."""

from __future__ import annotations

import re

import pytest
from tests.docs import pages

from job_harness.core.invariants import everything, stepwise
from job_harness.core.port import ALL_SHOWN, ShownFacts

PAGE = pages.ROOT / "docs/applications.md"
FILES = {block.file: block.text for block in pages.blocks(PAGE) if block.file is not None}


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_files_that_the_scenarios_run(name: str) -> None:
    assert FILES[name] == (pages.ROOT / "scenarios/applications" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "shown"), [("applications.md", ALL_SHOWN), ("system_files.md", ShownFacts())])
def test_the_page_lists_the_invariants_that_judge_processes(name: str, shown: ShownFacts) -> None:
    text = (pages.ROOT / "docs" / name).read_text(encoding="utf-8")
    listed = re.search(r"`legal_transition`.*?`processes_survive`", text, re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r"`(\w+)`", listed[0])) == sorted(item.id for item in stepwise(everything(), shown))


def test_wrapping_takes_under_forty_lines() -> None:
    lines = [line for line in FILES["my_app.py"].splitlines() if line.strip()]

    told = re.search(r"wrap it in (\d+) lines", PAGE.read_text(encoding="utf-8"))

    assert told is not None
    assert int(told[1]) == len(lines) < 40


def test_each_failure_on_the_page_fits_a_terminal() -> None:
    shown = [block.shown for block in pages.blocks(PAGE) if block.words == ("console", "fails")]
    shown = [screen for screen in shown if screen]

    assert len(shown) == 3
    for screen in shown:
        written = next(number for number, line in enumerate(screen, start=1) if line.startswith("Written: "))
        assert written <= 24
        assert max(map(len, screen[:written])) <= 80
        assert any(line.startswith("Fixed by: ") for line in screen)
