"""What a test that passes leaves open: which mark accepts it, and where it fails the test all the same."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pytest

from job_harness.core.own_code import CodeLine
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.processors.delivery import EXTERNALS
from job_harness.subjects.processors.judgement import INCONCLUSIVE

MARK: Final = "job_accepts"
UNJUDGED: Final = "not judged: "
"""Begins a line that says what a pass does not promise."""
_END_OF_WORDS: Final = re.compile(r"[;:(]| in \d|, so | at /")
"""Where the words of a line end that are the same in every run: after it come counts, causes and cures."""


class Gap(NamedTuple):
    """Something that a pass does not promise."""

    text: str
    """Its first line says what."""
    nothing: bool = False
    """Whether there was nothing to judge, or what was seen is judged by nothing."""
    partly: bool = False
    """Of nothing: whether a part of it was judged all the same."""


@dataclass(slots=True)
class LeftOpen:
    """What one test left open."""

    accepted: Sequence[str]
    """Words of what the test accepts, by its marks."""
    strict: bool
    by: str
    """What fails a test that judged nothing; empty: nothing does."""
    asks_for_others: bool = False
    """Whether it asks what all tests of a folder ask, of which this session has only some."""
    nothing: int = 0
    """How often it judged nothing."""
    partly: int = 0
    """How often it judged only some of its runs."""
    gaps: int = 0
    notes: int = 0
    happened: set[str] = field(default_factory=set)
    """The side effects that its processors declared."""
    idle: set[str] = field(default_factory=set)
    """Those that it asks about, and of which there was none."""
    bare: bool = False
    """Whether it was explored without any side effect and any check, so that only what is idle would have judged."""

    @classmethod
    def of(cls, item: pytest.Item, *, by: str) -> LeftOpen:
        """Begin with nothing. Raises UsageError for a mark without words."""
        words = [word for mark in item.iter_markers(MARK) for word in mark.args or ("",)]
        if any(not isinstance(word, str) or not word for word in words):
            raise UsageError(f"{MARK} takes words of the lines that it accepts", hint=f"Write {mark_of('thread: ')}.")
        return cls(words, item.config.getoption("--job-strict"), by, _asks_for_others(item))

    def take(self, gaps: Iterable[Gap]) -> list[Gap]:
        """Count what is left open, and return what of it is not accepted."""
        left = [gap for gap in gaps if not self.accepts(gap.text)]
        self.nothing += sum(gap.nothing and not gap.partly for gap in left)
        self.partly += sum(gap.partly for gap in left)
        self.gaps += sum(not gap.nothing for gap in left)
        return left

    def take_notes(self, notes: Iterable[str]) -> list[str]:
        """Count notes about single places, which fail nothing, and return those that are not accepted."""
        left = [note for note in notes if not self.accepts(note)]
        self.notes += len(left)
        return left

    def accepts(self, text: str) -> bool:
        """Whether a mark of the test has words of it."""
        return any(word in text for word in self.accepted)

    def fails(self, gaps: Sequence[Gap]) -> str:
        """Say by what the test fails; empty: by none of these."""
        return "\n".join(f"{by}: {UNJUDGED}{gap.text}" for gap in gaps if (by := self.fails_by(gap.nothing)))

    def fails_by(self, nothing: bool) -> str:
        """Say what lets a test fail that left something open; empty: it passes."""
        return self.by if nothing or self.strict else ""

    def as_data(self, item: pytest.Item, *, ended: bool) -> dict[str, Any]:
        """Return what the summary of a session reads, also in the process of another worker.

        A test that did not end as it was meant to may have missed what it asks about.
        """
        if not ended:
            self.idle.clear()
        externals = _externals_of(item) if ended else {}
        counted = {"nothing": self.nothing, "partly": self.partly, "gaps": self.gaps, "notes": self.notes}
        idle = sorted(name for name in self.idle if not self.accepts(never_happened(name, ())))
        idle = [] if self.asks_for_others else idle
        beside = {"externals": externals, "accepted": [*self.accepted]}
        return {**counted, "happened": sorted(self.happened), "idle": idle, "bare": self.bare, **beside}


def _asks_for_others(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False  # A pinned finding, which asks nothing itself.
    shared = item._fixtureinfo.name2fixturedefs.get("job_invariants", ())
    return _is_chosen(item.config) and bool(shared) and shared[-1].func.__module__.rpartition(".")[2] == "conftest"


def _is_chosen(config: pytest.Config) -> bool:
    """Whether a session has only some of the tests of a file."""
    return bool(config.option.keyword or config.option.markexpr) or any("::" in argument for argument in config.args)


def _externals_of(item: pytest.Item) -> dict[str, str]:
    """Return where each `external` stands that a session with this test could call.

    With only some tests of a file, that are those of the test's own body; with some files, those of
    its file too: what a fixture declares may be for other tests.
    """
    if not isinstance(item, pytest.Function):
        return {}
    body = inspect.unwrap(item.function).__code__
    last = max((line for _, _, line in body.co_lines() if line is not None), default=0)
    chosen, files = _is_chosen(item.config), any(argument.endswith(".py") for argument in item.config.args)

    def counts(at: CodeLine) -> bool:
        own = at.file == body.co_filename and body.co_firstlineno <= at.line <= last
        return own or not (chosen or (files and at.file != body.co_filename))

    return {name: at.relative for name, at in EXTERNALS.items() if at is not None and counts(at)}


def mark_of(line: str) -> str:
    """Return the mark that accepts a line, by the words of it that are the same in every run."""
    words = line.rpartition(UNJUDGED)[2].removeprefix(INCONCLUSIVE)
    return f'@pytest.mark.{MARK}("{_END_OF_WORDS.split(words, maxsplit=1)[0].strip()}")'


def never_happened(name: str, happened: Collection[str]) -> str:
    """Say that a side effect is judged that never happened."""
    near = did_you_mean(name, happened)
    where = f"call effect({name!r}) where it is done, in the processor's own process"
    return f"the effect {name!r} is asked about and never happened{near}: {where}"


def never_in_session(told: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the side effects that tests ask about and that none of a session had, each with the tests that ask.

    Of a test that asks about nothing else, also those that another test had. `told` has the name of each test, and what
    it left open.
    """
    asking: dict[str, list[str]] = {}
    happened = {name for _, left in told for name in left["happened"]}
    for test, left in told:
        for name in left["idle"]:
            if left["bare"] or name not in happened:
                asking.setdefault(name, []).append(test)
    return {never_happened(name, happened - {name}): tests for name, tests in asking.items()}


def never_called(name: str) -> str:
    """Say that no run called what a test declared."""
    return f"external {name!r}: no run called it, so it was not judged; let a processor call it, or leave it out"


def uncalled_in_session(told: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the externals that no test of a session called, asks about or accepts, each with where it stands."""
    known = {name for _, left in told for name in (*left["happened"], *left["idle"])}
    accepted = [word for _, left in told for word in left["accepted"]]
    declared = {name: at for _, left in told for name, at in left["externals"].items() if name not in known}
    lines = {never_called(name): [at] for name, at in sorted(declared.items())}
    return {line: places for line, places in lines.items() if not any(word in line for word in accepted)}


def summary_of(told: Iterable[dict[str, Any]], *, beside: int = 0, notes: int = 0) -> Iterator[str]:
    """Count what the tests of a session left open; `beside` and `notes` are what none of them did alone."""
    counts = Counter[str]()
    for left in told:
        counts.update({name: left[name] for name in ("nothing", "partly", "gaps", "notes")})
    counts["nothing"] += beside
    counts["notes"] += notes
    plural = "note" if counts["notes"] == 1 else "notes"
    if counts.total():
        partly = f"{counts['partly']} judged in part, " if counts["partly"] else ""
        judged = f"{partly}{counts['nothing']} judged nothing, {counts['gaps']} not judged"
        yield f"job-harness: {judged}, {counts['notes']} {plural}"
