"""The docs as one text: the README, then each page, in the order in which they are read.

A checkout has the pages; a wheel has the text, which its build makes with this module. So it needs
the standard library and nothing else. Must not know what the pages say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

FIRST: Final = ("tutorial", "pytest", "typescript", "queue_files", "scenarios", "exploring", "command_line")
"""Pages that come first; the others follow by name, and the contracts and results at the end."""
TEXT: Final = "documentation.md"
"""Where a wheel has it, beside this module."""
_MARK: Final = "<!-- page: {name} -->"
_PAGE: Final = re.compile(r"^<!-- page: (\S+) -->\n", re.MULTILINE)
_ABOUT_THE_TEXT: Final = re.compile(r"Written by\b|Version \d+\.$")
"""How a sentence begins that says where a page comes from, and not what it is about."""


def whole(root: Path) -> str:
    """Return the text that the pages of a checkout make, each after a mark with its path."""
    return joined({path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in _pages(root)})


def joined(pages: Mapping[str, str]) -> str:
    """Return the text that pages make, by their paths."""
    return "\n".join(f"{_MARK.format(name=path)}\n\n{page.strip()}\n" for path, page in pages.items())


def documentation() -> str:
    """Return the text of this installation; empty where it has none."""
    built = Path(__file__).with_name(TEXT)
    if built.is_file():
        return built.read_text(encoding="utf-8")
    root = Path(__file__).parents[3]
    return whole(root) if (root / "docs").is_dir() else ""


def split(text: str) -> dict[str, str]:
    """Return the pages of such a text by their names, such as `pytest`, `contracts/effect` or `results/performance`."""
    marks = list(_PAGE.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {
        re.sub(r"^(?:docs|benchmarks)/|\.md$", "", mark[1]): text[mark.end() : end].strip() + "\n"
        for mark, end in zip(marks, ends, strict=True)
    }


def about(page: str) -> tuple[str, str]:
    """Return the title of a page and its first sentence that says something of its subject."""
    title = next((line[2:].strip() for line in page.splitlines() if line.startswith("# ")), "")
    plain = re.sub(r"<!--.*?-->|^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    paragraphs = (part for part in re.split(r"\n\s*\n", plain) if part.strip() and not part.startswith("    "))
    prose = (" ".join(part.split()) for part in paragraphs if part.lstrip()[0] not in "#|!<-")
    sentences = (sentence for part in prose for sentence in re.split(r"(?<=\.)\s", part))
    first = next((sentence for sentence in sentences if not _ABOUT_THE_TEXT.match(sentence)), "")
    return title, re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", first)


def _pages(root: Path) -> Iterator[Path]:
    docs = root / "docs"
    first = [docs / f"{name}.md" for name in FIRST]
    yield root / "README.md"
    yield from first
    yield from (path for path in sorted(docs.glob("*.md")) if path not in first)
    yield from sorted(docs.glob("findings/*.md"))
    yield from sorted(docs.glob("contracts/*.md"))
    yield from sorted(root.glob("benchmarks/results/*.md"))
