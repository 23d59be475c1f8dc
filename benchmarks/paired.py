"""Measures things that run side by side: interleaved rounds, medians, and ratios within one round.

A number alone says more about the machine than about the code; a ratio to something measured in the same round does
not. Nothing here asserts a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Aim:
    """What the ratio of one row is held against."""

    row: str
    ratio: float
    why: str
    """What is known of the reason, told where the aim is missed."""
    at_least: bool = False
    """The ratio should reach the aim; otherwise it should stay below it."""

    def verdict(self, ratio: float) -> str:
        """Say whether the aim is met."""
        met = ratio >= self.ratio if self.at_least else ratio <= self.ratio
        wanted = f"{'at least' if self.at_least else 'at most'} {self.ratio:g}x for {self.row!r}"
        return f"Aim: {wanted}. Met: {ratio:.2f}x." if met else f"Aim: {wanted}. **Missed**: {ratio:.2f}x. {self.why}"


def interleave(measures: Mapping[str, Callable[[], float]], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Take every measure once a round, until `rounds` are done or `seconds` are over; the first round warms up."""
    rows: dict[str, list[float]] = {name: [] for name in measures}
    began = time.perf_counter()
    for number in range(rounds + 1):
        taken = {name: measure() for name, measure in measures.items()}
        if number:
            for name, value in taken.items():
                rows[name].append(value)
        if number and time.perf_counter() - began > seconds:
            break
    return rows


def seconds_of(work: Callable[[], object]) -> float:
    """Return the real seconds that a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratios(rows: Mapping[str, Sequence[float]], base: str) -> dict[str, float]:
    """Return the median over the rounds of each row's ratio to the base row of the same round."""
    return {
        name: median(value / other for value, other in zip(values, rows[base], strict=False))
        for name, values in rows.items()
        if values
    }


def show(
    title: str,
    rows: Mapping[str, Sequence[float]],
    *,
    base: str,
    unit: str,
    scale: float = 1.0,
    aims: Sequence[Aim] = (),
    note: str = "",
) -> None:
    """Print one question as a Markdown table, and what each aim came to."""
    found = ratios(rows, base)
    rounds = max(len(values) for values in rows.values())
    print(f"\n### {title}\n\n| | median | best | ratio to {base!r} |\n| --- | ---: | ---: | ---: |")
    better = max if unit.endswith("/s") or unit.startswith("times") else min
    for name, values in rows.items():
        if values:
            cells = f"{_number(median(values) * scale)} {unit} | {_number(better(values) * scale)} {unit}"
            print(f"| {name} | {cells} | {found[name]:.2f}x |")
    print(f"\n{rounds} interleaved rounds, medians.{' ' + note if note else ''}")
    for aim in aims:
        if aim.row in found:
            print(f"\n{aim.verdict(found[aim.row])}")
        else:
            print(f"\nAim for {aim.row!r}: not measured here.")


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"
