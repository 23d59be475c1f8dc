"""Every case on every engine, a row for each case and a column for each engine, and what explains what is no pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.conformance.judge import Conformance, Mark, Result

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
    """Answer the table, its legend and its explanations, in lines of any length."""
    if not conformances:
        return
    for number, conformance in enumerate(conformances, start=1):
        yield f"{number:>3}  {conformance.engine}"
    names = list(dict.fromkeys(result.case.name for conformance in conformances for result in conformance.results))
    width = max(map(len, names), default=0)
    by_name = [{result.case.name: result for result in conformance.results} for conformance in conformances]
    yield ""
    yield _row("scenario", [str(number) for number in range(1, len(conformances) + 1)], width)
    for name in names:
        yield _row(name, [_cell(results.get(name)) for results in by_name], width)
    yield ""
    yield LEGEND
    for conformance in conformances:
        yield from _explained(conformance)
    yield ""
    yield _total(conformances)


def _row(name: str, cells: Sequence[str], width: int) -> str:
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
