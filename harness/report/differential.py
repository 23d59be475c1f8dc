"""The same scenarios on several engines, side by side, and where each first diverges from the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from harness.report.case import Case
from harness.report.screen import WIDTH, Line
from harness.report.wording import clip, one_line, wrap
from harness.run.verdict import Verdict

NAME_WIDTH: Final = 44
LACKS: Final = "-"
"""The engine cannot do what the scenario needs: that is no difference."""


def side_by_side(cases: Sequence[Case]) -> list[Line]:
    """Answer a table with a column for each engine of the scenarios on which they differ; empty where none do.

    Below it, for each engine, its first divergence from the first engine: documented, with the place, or an anomaly.
    """
    rows: dict[str, dict[str, Case]] = {}
    for case in cases:
        if case.control is None:
            rows.setdefault(case.name, {})[case.engine] = case
    engines = list(dict.fromkeys(engine for row in rows.values() for engine in row))
    apart = {
        name: row for name, row in rows.items() if len({_mark(row.get(engine)) for engine in engines} - {LACKS}) > 1
    }
    if len(engines) < 2 or not apart:
        return []
    return [Line(""), *_table(apart, engines), Line(""), *_divergences(apart, engines), Line("")]


def _table(rows: dict[str, dict[str, Case]], engines: Sequence[str]) -> Iterator[Line]:
    cells = [["scenario", *engines]]
    cells += [
        [clip(_short(name), NAME_WIDTH), *(_mark(row.get(engine)) for engine in engines)] for name, row in rows.items()
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield Line(text.rstrip())


def _divergences(rows: dict[str, dict[str, Case]], engines: Sequence[str]) -> Iterator[Line]:
    first = engines[0]
    for engine in engines[1:]:
        apart = [row for row in rows.values() if _mark(row.get(engine)) not in (LACKS, _mark(row.get(first)))]
        case = next((row[engine] for row in apart if engine in row), None)
        if case is None:
            yield Line(f"{engine}: as {first}")
            continue
        about = f"{engine} first differs from {first} in {_short(case.name)}: {_explained(case)}"
        yield from (Line(text) for text in wrap("", about, width=WIDTH, lines=4))


def _explained(case: Case) -> str:
    headline = one_line(case.headline)
    if case.differs or case.lacking or case.verdict is not Verdict.FAIL or case.run is None:
        return headline or "passes"
    return f"anomaly {headline}" if case.run.anomalies else headline


def _mark(case: Case | None) -> str:
    if case is None or case.lacking:
        return LACKS
    if case.differs:
        return "different"
    if case.error is not None or case.run is None:
        return "not run"
    gravest = case.run.gravest
    return str(case.verdict) if case.verdict is not Verdict.FAIL or gravest is None else gravest.name


def _short(name: str) -> str:
    return "/".join(name.removesuffix(".yaml").split("/")[-2:])
