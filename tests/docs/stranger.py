"""Plays what a newcomer types: each command of README and of the tutorial, in an installation without extras.

`python -m tests.docs.stranger BIN` takes the folder of the programs that were installed there. The newcomer has an
empty folder, saves what a page says to save, has neither Node nor a database on the PATH, and types one command after
the other. A command works, fails where the page says that it finds something, or names the extra that brings what it
lacks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.docs import pages

PATH_OF_A_NEWCOMER = ("README.md", "docs/overview.md", "docs/tutorial.md", "docs/scaffolding.md", "docs/tasks.md")
PROGRAMS = ("bash", "sh", "env", "cat", "ls", "mkdir", "rm", "sed", "grep", "tail", "head", "test", "git")
NAMES_AN_EXTRA = re.compile(
    r"pip install (-e )?\S*\[\w+\]|pip install (celery|dramatiq|django|temporalio|langgraph|dbos|pydantic)"
)
LEFT_OUT = {"celery", "dramatiq", "django", "temporalio", "langgraph", "dbos", "pydantic_ai", "npm"}
"""Marks of blocks that a plain installation is not asked to run: they are for those who have these."""
BROKEN = re.compile(r"Traceback \(most recent call last\)|No module named|command not found")
PATIENCE_SECONDS = 180


class Typed(NamedTuple):
    """A command, and how it went."""

    page: str
    command: str
    code: int
    said: str
    wanted: int

    @property
    def problem(self) -> str:
        """What a newcomer would complain about; nothing where it went as the page says."""
        if BROKEN.search(self.said):
            return "it broke"
        if self.code == self.wanted or NAMES_AN_EXTRA.search(self.said):
            return ""
        return f"it ended with {self.code}, not {self.wanted}, and names no extra"


def played(programs: Path, folder: Path) -> Iterator[Typed]:
    """Type everything, page by page."""
    for name in PATH_OF_A_NEWCOMER:
        place = folder / Path(name).stem
        place.mkdir()
        yield from _page(pages.ROOT / name, name, place, _environment(programs, folder))


def _page(page: Path, name: str, place: Path, environment: dict[str, str]) -> Iterator[Typed]:
    for block in pages.blocks(page):
        if block.file is not None:
            (place / block.file).parent.mkdir(parents=True, exist_ok=True)
            (place / block.file).write_text(block.text, encoding="utf-8")
        if block.words[:1] != ("console",) or LEFT_OUT.intersection(block.words):
            continue
        for command in block.commands:
            ended = subprocess.run(
                ["bash", "-c", command],
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            wanted = 1 if "fails" in block.words else 0
            yield Typed(name, command, ended.returncode, ended.stdout + ended.stderr, wanted)


def _environment(programs: Path, folder: Path) -> dict[str, str]:
    beside = folder / "programs"
    beside.mkdir(exist_ok=True)
    for program in PROGRAMS:
        if (found := shutil.which(program)) and not (beside / program).exists():
            (beside / program).symlink_to(found)
    kept = {key: value for key, value in os.environ.items() if key in {"HOME", "LANG", "TMPDIR", "JOB_HARNESS_CACHE"}}
    return {**kept, "PATH": os.pathsep.join((str(programs), str(beside))), "COLUMNS": "80"}


def main() -> int:
    """Play it with the programs of a folder, and say how each command went."""
    with tempfile.TemporaryDirectory(prefix="job-harness-stranger-") as folder:
        went = []
        for typed in played(Path(sys.argv[1]).absolute(), Path(folder)):
            went.append(typed)
            how = typed.problem or ("works" if typed.code == typed.wanted else "names an extra")
            print(f"{how:14} {typed.page}: {typed.command}", flush=True)
            if typed.problem:
                print(typed.said[-2000:])
    if not went:
        print("nothing was typed")
    return int(not went or any(typed.problem for typed in went))


if __name__ == "__main__":
    sys.exit(main())
