"""Every cell of the page of outcomes comes out again by the command that the page gives for it."""

from __future__ import annotations

import re

import pytest
from tests.docs import pages

from job_harness.doors.cli import main
from job_harness.engines.conformance.outcomes import CASES
from job_harness.errors import ExitCode

PAGE = pages.ROOT / "benchmarks/results/outcomes.md"


def cells() -> dict[str, dict[str, str]]:
    """Read the page: engine -> case -> word."""
    found: dict[str, dict[str, str]] = {}
    for table in re.findall(r"^\| outcome \|.*(?:\n\|.*)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *rows = ([cell.strip(" `*") for cell in line.strip("|").split(" | ")] for line in table.splitlines())
        for name, _, *words in rows:
            for engine, word in zip(head[2:], words, strict=True):
                found.setdefault(engine, {})[name] = word
    return found


def test_the_page_has_every_case_of_every_engine() -> None:
    assert len(cells()) >= 12
    assert {frozenset(cases) for cases in cells().values()} == {frozenset(CASES)}


@pytest.mark.campaign
@pytest.mark.postgres
@pytest.mark.parametrize("engine", cells())
def test_each_cell_replays(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    for case, word in cells()[engine].items():
        code = main(["conform", engine, "--outcomes", case])
        told = capsys.readouterr().out
        if code == ExitCode.ENVIRONMENT:
            pytest.skip(told.strip())
        assert told.startswith(f"{engine}, {case}: {word}\n"), f"run python benchmarks/outcomes.py\n{told}"
