"""The pages as data: their fenced blocks, links and commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FINDINGS = sorted((ROOT / "docs/findings").glob("*.md"))
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *FINDINGS)
TEXTS = (
    *PAGES,
    *sorted((ROOT / "docs/contracts").glob("*.md")),
    *sorted((ROOT / "benchmarks/results").glob("*.md")),
    *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "scenarios/README.md")),
)
_BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<info>[^\n]*)\n(?P<text>.*?)```", re.DOTALL)

_GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->\n", re.DOTALL)


class Block(NamedTuple):
    """A fenced block; `file` is what a reader saves it as."""

    page: Path
    number: int
    words: tuple[str, ...]
    text: str
    file: str | None

    @property
    def commands(self) -> list[str]:
        """The lines that a reader types."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]

    @property
    def shown(self) -> list[str]:
        """The lines that a reader then sees."""
        return [line for line in self.text.splitlines() if not line.startswith("$ ")]

    @property
    def parts(self) -> list[str]:
        """What is shown, cut where the page leaves something out by a line of three dots."""
        return [part.strip("\n") for part in re.split(r"^ *\.\.\.$", "\n".join(self.shown), flags=re.MULTILINE)]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(page, number, tuple(match["info"].split()), match["text"], match["file"])
        for number, match in enumerate(found, start=1)
    ]


def blocks_of(*words: str) -> list[Block]:
    """Return the blocks of all pages that are marked so, and with nothing else."""
    return [block for page in PAGES for block in blocks(page) if block.words == words]


def hand_written(page: Path) -> int:
    """Count the lines of a page that no program writes, so neither generated tables nor pages of findings."""
    text = page.read_text(encoding="utf-8")
    return 0 if page in FINDINGS else len(_GENERATED.sub("", text).splitlines())


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as it is made where the pages are read."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
