"""Turns of phrase that a native engineer would not use: `python -m tests.docs.prose [PATH]...` lists where they stand.

A sample, not a grammar: each pattern was met here more than once, and each says what to write instead. It covers all
that a person reads: pages, help, errors, screens, docstrings, comments, scenarios.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.docs import pages

READ = ("*.md", "*.py", "*.mjs", "*.ts", "*.sql", "*.yaml", "*.toml", "Makefile", "*.sh")
LEFT_OUT = ("tests/docs/prose.py", "tests/docs/test_prose.py", "CHANGELOG.md")
"""The patterns themselves, and what was written before there were any."""
PATTERNS = {
    r"""(?<![\w"'/])(?:[Nn]obody|[Ss]omebody|[Aa]nybody|[Ww]hoever)\b(?!')""": "say which actor, caller or process",
    r'"""Answers? ': "Return",
    r"\b[Aa]nswers? (?:true|false|whether|which|who|how|what)\b": "returns, or says",
    r"\bhad again\b|\bcan(?:not| no longer) be had\b|\b(?:may|to) be had\b": "reproduces; is available",
    r"\bin vain\b": "without success, or what was missing",
    r"\bkeeps? book\b": "records, tracks",
    r"\b(?:tells?|told|telling) of\b": "reports, says",
    r"\b[Ss]o many\b(?! \w+ that)": "N, that many, or at most N",
    r"\b(?:come|comes|came|coming) to an end\b": "ends",
    r"\b(?:he|him|himself|his)\b(?! or)": "it, its: workers and processes are things; users are they",
    r"\btape no longer fits\b": "cannot be replayed",
    r"\bno (?:req|ans)\b": "lost request, lost reply",
    r"\b(?:Stopped by: |Normal run: |Normal except: )": "Fixed by, No fault was needed, One fault",
    r"\bit this small\b": "shrunk in N runs",
    r"\b(?:is|are|was|were) to be (?:told|known|seen|typed|said|found|had)\b": "can be, or say who does it",
    r"\bwhat (?:became|comes|came) of (?:it|them|that)\b": "the result, the outcome",
    r"\bof somebody(?:'s)? (?:else|own)\b": "other people's, your own",
    r"\b(?:for|of|refused?|where) what is no\b(?! longer)": "if it is not a ...",
    r"\bgo(?:es)? round\b": "loops",
    r"^# .*\?$": "a title is what people search for, not a question",
}


class Hit(NamedTuple):
    """A line with a turn of phrase that should be another."""

    path: str
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text!r}: {self.instead}"


def files() -> list[Path]:
    """Return every file of the repository that a person reads."""
    listed = subprocess.run(["git", "ls-files", *READ], cwd=pages.ROOT, capture_output=True, text=True, check=True)
    return [pages.ROOT / name for name in listed.stdout.split() if name not in LEFT_OUT]


def hits(paths: list[Path]) -> Iterator[Hit]:
    """Look through files."""
    compiled = [
        (re.compile(pattern.removeprefix(r"\b"), re.MULTILINE), re.compile(pattern, re.MULTILINE), instead)
        for pattern, instead in PATTERNS.items()
    ]  # Without the boundary in front of it a pattern is looked for by its first letters, in a tenth of the time.
    for path in paths:
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(pages.ROOT))
        found = [
            (match, instead)
            for hint, pattern, instead in compiled
            if hint.search(text)
            for match in pattern.finditer(text)
        ]
        for match, instead in sorted(found, key=lambda one: one[0].start()):
            yield Hit(name, text.count("\n", 0, match.start()) + 1, match[0].strip(), instead)


if __name__ == "__main__":
    asked = [Path(name).resolve() for name in sys.argv[1:]]
    within = [path for path in files() if not asked or any(path.is_relative_to(one) for one in asked)]
    found = list(hits(within))
    print("\n".join(map(str, found)))
    sys.exit(f"{len(found)} turns of phrase to rewrite" if found else 0)
