"""How conformance is written: a table of engines, the detail of one, and every case on every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.conformance.judge import JUDGED, Conformance, Level, Mark, Result

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


CELLS: Final[Mapping[Mark, str]] = {
    Mark.PASS: "pass",
    Mark.DIFFERENT: "diff",
    Mark.KNOWN: "known",
    Mark.SKIPPED: "-",
    Mark.FAIL: "FAIL",
    Mark.OPEN: "OPEN",
}
EXPLAINED: Final = (Mark.DIFFERENT, Mark.KNOWN)
LEGEND: Final = "diff: its documentation or source says so; known: on record; -: it does not claim to do this"


def matrix(conformances: Sequence[Conformance]) -> Iterator[str]:
    """Return the table, its legend and its explanations, in lines of any length."""
    if not conformances:
        return
    for number, conformance in enumerate(conformances, start=1):
        yield f"{number:>3}  {conformance.engine}"
    names = list(dict.fromkeys(result.case.name for conformance in conformances for result in conformance.results))
    width = max(map(len, names), default=0)
    by_name = [{result.case.name: result for result in conformance.results} for conformance in conformances]
    yield ""
    yield _matrix_row("scenario", [str(number) for number in range(1, len(conformances) + 1)], width)
    for name in names:
        yield _matrix_row(name, [_cell(results.get(name)) for results in by_name], width)
    yield ""
    yield LEGEND
    for conformance in conformances:
        yield from _explained(conformance)
    yield ""
    yield _total(conformances)


def _matrix_row(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name.ljust(width)}  {' '.join(cell.ljust(5) for cell in cells)}".rstrip()


def _cell(result: Result | None) -> str:
    return "" if result is None else CELLS[result.mark]


def _explained(conformance: Conformance) -> Iterator[str]:
    """Name the cases of one explanation together."""
    places: dict[tuple[Mark, str], list[str]] = {}
    for result in conformance.results:
        if result.mark in EXPLAINED:
            places.setdefault((result.mark, result.why), []).append(result.case.name)
    if places:
        yield ""
        yield conformance.engine
    for (mark, why), names in places.items():
        yield f"  {CELLS[mark]:5}  {', '.join(names)}: {why}"


def _total(conformances: Sequence[Conformance]) -> str:
    marks = [result.mark for conformance in conformances for result in conformance.results]
    told = ", ".join(f"{marks.count(mark)} {CELLS[mark]}" for mark in CELLS if mark in marks)
    unexplained = marks.count(Mark.FAIL) + marks.count(Mark.OPEN)
    return f"{told}: {unexplained or 'nothing'} unexplained"
