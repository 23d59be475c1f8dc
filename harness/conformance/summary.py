"""Says in words how far engines conform: one in detail, or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.conformance.judge import JUDGED, Conformance, Mark
from harness.conformance.level import Level

WIDTH = 100
ASIDE = (Mark.KNOWN, Mark.DIFFERENT, Mark.SKIPPED)
SHOWN = (Mark.FAIL, Mark.OPEN, Mark.KNOWN, Mark.DIFFERENT, Mark.SKIPPED)


def detail(conformance: Conformance, *, quiet: bool = False) -> Iterator[str]:
    """Name every case that does not pass, with the reason; `quiet` leaves out what was never asked."""
    for mark in SHOWN:
        if quiet and mark in ASIDE:
            continue
        for result in conformance.results:
            if result.mark is mark:
                yield _clipped(f"{mark:9} {result.case.level:9} {result.case.name}: {result.why}")
    for name in conformance.lies:
        yield f"lie       declares {name}, and none of the cases that need it passes"
    yield f"{conformance.engine}: {conformance.badge}"


def table(conformances: Sequence[Conformance]) -> Iterator[str]:
    """Put engines side by side: of each level, how many of the judged cases pass; then what is explained."""
    head = ["engine", *(str(level) for level in Level), *(str(mark) for mark in ASIDE)]
    rows = [head, *(_row(conformance) for conformance in conformances)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(conformance: Conformance) -> list[str]:
    cells = [conformance.engine]
    for level in Level:
        counts = conformance.of(level)
        judged = sum(counts[mark] for mark in JUDGED)
        cells.append(f"{counts[Mark.PASS]}/{judged}" if judged else "-")
    marks = [result.mark for result in conformance.results]
    return [*cells, *(str(marks.count(mark)) for mark in ASIDE)]


def _clipped(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
