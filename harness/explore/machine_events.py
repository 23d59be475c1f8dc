"""What an example met, as Hypothesis events: its statistics and its observability files show what a campaign counts."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import event

from harness.explore.coverage import Cell, Coverage
from harness.history.event import History


def tell(history: History) -> None:
    """Record the situations and faults of an example; only inside a test of Hypothesis."""
    for name in met(history):
        event(name)


def met(history: History) -> Iterator[str]:
    """Answer each once, in words: the situations of `docs/exploring.md`, then faults by position and status."""
    coverage = Coverage()
    coverage.observe(history)
    yield from sorted(coverage.situations)
    yield from sorted(_words(cell) for cell in coverage.faults)


def _words(cell: Cell) -> str:
    where = "" if cell.position == "time" else f" at {cell.position}"
    return f"fault: {cell.fault}{where}" + ("" if cell.status == "-" else f", the job {cell.status}")
