"""The pages leave nothing out: generated tables are current, everything has its entry, links lead somewhere."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.docs import pages
from tests.docs.pictures import FOLDER, WIDTHS, digest, drawn_of, page

from job_harness import __version__
from job_harness.core.invariants import ANOMALIES, CATALOGUE
from job_harness.core.model.design import Design
from job_harness.doors.pytest import plugin as pytest_plugin

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
DOCS = sorted((pages.ROOT / "docs").rglob("*.md"))
MODULE = re.compile(r"\bjob_harness\.(?:core|doors|engines|report|review|search|subjects|worlds)(?:\.[a-z_]+)*\b")
SOURCE = re.compile(r"`((?:harness|reference_impl|benchmarks)/[\w/]+\.\w+)`")
TABLES = {
    "settings", "scenario-keys", "job-keys", "expect-keys", "control-keys", "tape-keys", "processor-keys", "steps",
    "verbs", "places", "outcomes", "payloads", "faults", "fault-sentences", "moments", "invariants", "anomalies",
    "doors", "guarantees", "wrong-queues", "capabilities",
    "command-line", "pytest-options", "fixtures", "environment", "contract", "public-names",
    "symptoms",
    "symptoms-by-queue",
}  # fmt: skip


def text_of(name: str) -> str:
    return (pages.ROOT / name).read_text(encoding="utf-8")


def test_the_generated_tables_are_current_and_nothing_is_undescribed() -> None:
    ended = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=pages.ROOT,
        env={"PYTHONPATH": str(pages.ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, f"run python docs/generate.py\n{ended.stdout}{ended.stderr}"


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("verify", "`URL`"),
        ("merge", "`FILE ...`"),
        ("audit", "`[SOURCE ...]`"),
        ("explore", "`[TARGET]` | an engine, a queue file (queue.yaml), a system file (system.yaml), module:factory"),
        ("exhaust", "`[TARGET]` | an engine, a queue file (queue.yaml), module:factory"),
        ("exhaust", "`--time TIME` | stop after this time: 90 (seconds), 30s or 5m (default: no limit)"),
        ("init", "`--on {github,gitlab}`"),
        ("schema", "`[{scenario,report,queue,system}]`"),
    ],
)
def test_an_argument_is_shown_as_it_is_typed(command: str, argument: str) -> None:
    section = text_of("docs/command_line.md").split(f"### job-harness {command}\n")[1].split("\n### ")[0]
    assert f"| {argument}" in section


def test_every_fixture_is_described() -> None:
    described = re.findall(r"^\| `(\w+)` \|", text_of("docs/pytest.md").split("<!-- end -->")[0], re.MULTILINE)
    fixtures = [name for name, value in vars(pytest_plugin).items() if "Fixture" in type(value).__name__]
    assert sorted(described) == sorted(name for name in fixtures if not name.startswith("_"))


def test_every_table_stands_on_exactly_one_page() -> None:
    placed = [name for page in pages.PAGES for name in re.findall(r"<!-- generated: ([\w-]+) -->", page.read_text())]

    assert sorted(placed) == sorted(TABLES)


def test_the_readme_counts_the_invariants_rightly() -> None:
    assert len(CATALOGUE) == 38
    assert "thirty-eight invariants" in text_of("README.md")


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_every_anomaly_is_described_with_its_guarantee(anomaly: str) -> None:
    _, kind = ANOMALIES[anomaly]

    cost = f"at risk: {kind.guarantee}" if kind.only_risks else kind.guarantee
    assert f"| `{anomaly}` | {kind.sentence} | {cost} |" in text_of("docs/invariants.md")


@pytest.mark.parametrize("page", pages.TEXTS, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for match in LINK.finditer(prose):
        target, _, fragment = match["target"].partition("#")
        if "://" in target:
            continue
        led_to = (page.parent / target).resolve() if target else page
        assert led_to.is_file(), f"{page.name} links to {match['target']}"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", led_to.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {pages.anchor(heading) for heading in headings}, f"{page.name}: {match['target']}"


def test_every_page_of_results_is_led_to_with_its_command() -> None:
    rows = text_of("docs/measurements.md").splitlines()
    for result in (pages.ROOT / "benchmarks/results").glob("*.md"):
        assert [row for row in rows if f"(../benchmarks/results/{result.name})" in row and "`" in row], result.name


@pytest.mark.parametrize("page", pages.PAGES[1:], ids=lambda page: page.stem)
def test_every_page_has_a_title_and_is_linked(page: Path) -> None:
    first = page.read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith("# ")
    assert not first.endswith("?"), "a title is what people search for"
    if page in pages.FINDINGS:
        assert f"(findings/{page.name}#" in text_of("docs/findings.md")
    else:
        linked = f"({page.name})" in text_of("docs/overview.md") or f"(docs/{page.name})" in text_of("README.md")
        assert linked, f"neither README nor docs/overview.md leads to {page.name}"


def test_what_ci_imports_is_there() -> None:
    imported = re.findall(r"from (job_harness[\w.]*) import (\w+)", text_of(".ci/run") + text_of(".ci/wheel"))
    assert imported
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_the_readme_fits_one_screen_with_a_picture_three_commands_and_three_doors() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= 81
    assert len([command for block in pages.blocks(pages.ROOT / "README.md") for command in block.commands]) == 3
    assert len(re.findall(r"^\| \*\*", text, re.MULTILINE)) == 3


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (.*)", text_of("Makefile"), re.MULTILINE)[0].split()
    told = [re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")) for path in pages.TEXTS]
    assert {*phony, *(name for names in told for name in names)} - targets == set()


def test_the_readme_names_make_demo_and_the_very_test_command_that_ci_runs() -> None:
    first_screen = "\n".join(text_of("README.md").splitlines()[:25])
    named = re.findall(r"^(make \w+) +# .*\babout \w+ minutes?\b", first_screen, re.MULTILINE)
    assert named == ["make demo", "make test"]
    assert [command for command in named if f"\n{command.split()[1]}: $(STAMP)" not in text_of("Makefile")] == []
    assert "make test" in text_of(".ci/run").splitlines()


def test_the_docs_are_short_enough_to_be_read() -> None:
    lines = {page.name: pages.hand_written(page) for page in (pages.ROOT / "README.md", *DOCS)}
    assert sum(lines.values()) <= 9000, sorted(lines.items(), key=lambda entry: -entry[1])[:5]


def test_what_the_docs_name_of_the_code_is_there() -> None:
    named = {name for page in pages.TEXTS for name in MODULE.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 10
    for name in sorted(named):
        assert pkgutil.resolve_name(name)  # Raises ImportError or AttributeError for what is not there.
    paths = {path for page in pages.TEXTS for path in SOURCE.findall(page.read_text(encoding="utf-8"))}
    assert [path for path in sorted(paths) if not (pages.ROOT / path).exists()] == []


def test_the_changelog_says_in_two_screens_what_the_current_version_gives() -> None:
    text = text_of("CHANGELOG.md")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE) == [__version__]
    assert len(text.splitlines()) <= 120


def test_every_folder_of_scenarios_has_its_question() -> None:
    themes = {folder.name for folder in (pages.ROOT / "scenarios").iterdir() if folder.is_dir()}
    listed = set(re.findall(r"^\| `(\w+)` \|", text_of("scenarios/README.md"), re.MULTILINE))

    assert listed == themes


def test_every_design_that_a_contract_may_name_has_its_row() -> None:
    assert [each for each in Design if f"\n| `{each}` | " not in text_of("docs/conformance.md")] == []


def test_the_adapter_on_its_page_is_as_short_as_it_says() -> None:
    block = next(
        block for block in pages.blocks(pages.ROOT / "docs/write_an_adapter.md") if block.file == "my_queue.py"
    )
    queue = block.text.split("class MyQueue:")[1].split("class MyEngine:")[0]

    assert len([line for line in queue.splitlines() if line.strip()]) < 60


@pytest.mark.parametrize(
    "width", [pytest.param(width, marks=() if width == max(WIDTHS) else pytest.mark.long) for width in WIDTHS]
)
def test_the_pictures_show_the_page_as_it_is_drawn_now(width: int) -> None:
    """A change of the page asks for `python -m tests.docs.pictures`, which needs Chromium."""
    svg = FOLDER.joinpath(f"finding-{width}.svg").read_text(encoding="utf-8")
    assert drawn_of(svg) == digest(page())
    ElementTree.fromstring(svg)
