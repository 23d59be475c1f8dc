"""No block of a page is only looked at: what is no command to be typed is read by what it is for."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.docs import pages

from job_harness.core.scenario.document import read_document
from job_harness.core.scenario.reader import read_scenario
from job_harness.doors.cli import COMMANDS, command
from job_harness.engines.queue_file.statement import SqlSource, read_statements
from job_harness.errors import EnvironmentUnavailable
from job_harness.review.audit.job_table import read_table
from job_harness.subjects.systems.document import read_system_file
from job_harness.worlds.packages import find_typescript_node

BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page)]
TYPED = {
    "console": "typed by test_docs_commands, with npm by tests/client",
    "python": "run by test_docs_commands",
    "text": "what is printed: held against a command by test_docs_commands or written by tests/docs/write_screens",
}


def of(*words: str) -> Any:
    found = [block for block in BLOCKS if block.words == words and block.file is None]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.page.stem}-{block.number}")


def test_every_block_is_of_a_kind_that_a_test_knows() -> None:
    known = {*TYPED, "sh", "yaml", "toml", "sql", "typescript"}
    unknown = [
        (block.page.name, block.words) for block in BLOCKS if block.file is None and not known.intersection(block.words)
    ]
    assert unknown == []


@of("sh")
def test_what_a_shell_is_told_exists(block: pages.Block) -> None:
    extras = importlib.metadata.metadata("job-harness").get_all("Provides-Extra") or ()
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["job-harness"]:
            parser = argparse.ArgumentParser(allow_abbrev=False)
            command(COMMANDS[words[1]][0]).configure(parser)
            parser.parse_args(words[2:])  # It ends with SystemExit where an option does not exist.
        elif words[:1] == ["python"]:
            assert (pages.ROOT / words[1]).is_file(), line
        for extra in re.findall(r"job-harness\[(\w+)\]", line):
            assert extra in extras, line


def is_part(told: object, whole: object) -> bool:
    """Say whether a page shows what a file says, if perhaps not all of it."""
    if not isinstance(told, dict) or not isinstance(whole, dict):
        return told == whole
    return all(key in whole and is_part(value, whole[key]) for key, value in told.items())


@of("yaml")
def test_a_file_in_yaml_is_one(block: pages.Block, tmp_path: Path) -> None:
    told = read_document(block.text.encode(), "page.yaml").data
    assert told
    if not isinstance(told, dict) or "format" not in told:
        return
    if "table" in told:
        assert read_table(block.text.encode(), "table.yaml", path="table.yaml").name
    elif "processes" in told:
        examples = sorted((pages.ROOT / "examples").glob("*/system.yaml"))
        shown = [each for each in examples if is_part(told, read_document(each.read_bytes(), "page.yaml").data)]
        assert [read_system_file(str(each)).system for each in shown] == [told["system"]]
    else:
        scenario = tmp_path / "shown.yaml"
        scenario.write_text(block.text, encoding="utf-8")
        assert read_scenario(str(scenario)).title


def test_the_overview_shortens_the_screen_that_the_page_of_queue_files_shows() -> None:
    command = "$ job-harness explore queue.yaml\n"
    shortened = next(block for block in pages.blocks(pages.ROOT / "docs/overview.md") if block.text.startswith(command))
    whole = (pages.ROOT / "docs/queue_files.md").read_text(encoding="utf-8")
    assert len(shortened.parts) > 1
    assert [part for part in shortened.parts if part not in whole] == []


@of("toml")
def test_what_is_shown_of_pyproject_is_toml(block: pages.Block) -> None:
    assert tomllib.loads(block.text)


@of("sql")
def test_sql_is_of_an_example_or_can_be_cut(block: pages.Block) -> None:
    words = " ".join(block.text.split())
    shown = " ".join((pages.ROOT / "examples/python-app/system.yaml").read_text(encoding="utf-8").split())
    source = SqlSource.whole(block.text, "page.sql", "claim")
    assert words in shown or read_statements(source, {"job", "limit", "process"})


@of("typescript")
def test_typescript_is_typescript(block: pages.Block) -> None:
    try:
        node = find_typescript_node()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(" ".join(str(unavailable).split()))
    script = 'import { stripTypeScriptTypes as strip } from "node:module"; strip(process.argv[1]);'
    told = [node.path, "--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script, block.text]
    done = subprocess.run(told, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
