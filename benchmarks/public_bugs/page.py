"""Lays out what was measured as `results/public_bugs.md`; rows that were not measured anew are kept from the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from statistics import median
from typing import Final

from public_bugs.entry import Entry
from public_bugs.measure import LEAST, MULTIPLE, Measured
from public_bugs.search import Search, arguments

HEAD: Final = """# Public bugs that the explorer finds

Written by `make public-bugs`; `make public-bugs ARGS="--only BUG"` measures one row again.

Each row is a known bug of a released queue. The command in the row searches the affected release with the **generic
workload**: it has no script and no scenario for the bug and knows only which anomaly to look for. *found* is the number
of seeds that found it. *runs* and *seconds* are medians and include shrinking, on cores shared with other work. If the
list below says what the smallest scenario has, only a finding with that counts. Then the release that fixed the bug is
searched with the same seeds for {multiple} times the runs, at least {least}.
"""
COLUMNS: Final = ("bug", "known as", "affected", "shown by", "found", "runs", "seconds", "fixed in", "there", "command")
ABOUT: Final = """
## What the bugs are

"""
MISSED: Final = """
## Hard to find

"""
UNTRIED: Final = """
## Not tried

"""
Key = tuple[str, str]
Row = Sequence[str]


def written(
    entries: Sequence[Entry], measured: Iterable[Measured], *, untried: Mapping[str, str], before: str = ""
) -> str:
    """Return the page; `before` is what it was."""
    rows = {**rows_of(before), **{item.entry.key: row(item) for item in measured}}
    table = [rows.get(entry.key) or _unmeasured(entry) for entry in entries]
    parts = [
        HEAD.format(multiple=MULTIPLE, least=LEAST),
        _counted(table),
        "\n" + _lines([COLUMNS, ["---"] * len(COLUMNS), *table]),
        ABOUT + "".join(_about(entry) for entry in _once(entries)),
        MISSED + "".join(f"- `{entry.bug}` in {entry.affected}: {entry.missed}\n" for entry in entries if entry.missed),
        UNTRIED + "".join(f"- `{bug}`: {why}\n" for bug, why in untried.items()),
    ]
    return "".join(part for part in parts if not part.endswith("\n\n"))


def row(item: Measured) -> Row:
    """Lay out one row."""
    entry = item.entry
    found = [one for one in item.affected if one.anomaly]
    shown = dict.fromkeys(one.anomaly for one in found if one.anomaly) or dict.fromkeys(entry.anomalies)
    seed = found[0].seed if found else 0
    return (
        f"`{entry.bug}`",
        f"[{entry.known_as}]({entry.url})" if entry.url else entry.known_as,
        entry.affected,
        ", ".join(f"`{anomaly}`" for anomaly in shown),
        f"{len(found)}/{len(item.affected)}" if item.affected else _problem(item.problem),
        f"{median(one.runs for one in found):.0f}" if found else _not_in(item.affected),
        f"{median(one.seconds for one in found):.0f}" if found else "-",
        "no release" if entry.fixed is None else entry.fixed,
        _there(item),
        "`job-harness explore "
        + " ".join([entry.affected, *map(quote, arguments(entry, entry.affected, seed=seed)[1:])])
        + "`",
    )


def _typed(words: Sequence[str]) -> str:
    """Write arguments as a shell takes them; a release has its options with it."""
    return " ".join([words[0], *map(quote, words[1:])])


def rows_of(page: str) -> dict[Key, Row]:
    """Read the rows of a page that was written before."""
    lines = (line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| `") and line.endswith(" |"))
    return {(cells[0].strip("`"), cells[2]): cells for cells in lines if len(cells) == len(COLUMNS)}


def _unmeasured(entry: Entry) -> Row:
    return row(Measured(entry, (), problem="not measured yet"))


def _counted(table: Sequence[Row]) -> str:
    found = [cells for cells in table if cells[4][:1].isdigit() and not cells[4].startswith("0/")]
    gone = [cells for cells in found if cells[8].startswith("not in")]
    unfixed = [cells for cells in found if cells[7] == "no release"]
    return (
        f"\nOf {len(table)} rows {len(found)} were found. {len(gone)} of these are gone in the release that fixed "
        f"them; no release fixes {len(unfixed)}.\n"
    )


def _not_in(searches: Sequence[Search]) -> str:
    return f"not in {sum(one.runs for one in searches)}" if searches else "-"


def _there(item: Measured) -> str:
    if item.entry.fixed is None:
        return "-"
    if not item.fixed:
        return _problem(item.problem) if item.problem else "-"
    again = [one for one in item.fixed if one.anomaly]
    if again:
        return f"**found again** in {len(again)}/{len(item.fixed)}"
    told = f"{_not_in(item.fixed)} runs"
    others = sum(one.others for one in item.fixed)
    troubles = sum(len(one.troubles) for one in item.fixed)
    cut = sum(one.cut for one in item.fixed)
    told += f"; {others} times another bug" if others else ""
    told += f"; {cut} of them cut at their limit of steps" if cut else ""
    told += f"; {troubles} times ended early" if troubles else ""
    return told + (f"; {_problem(item.problem)}" if item.problem else "")


def _problem(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _once(entries: Iterable[Entry]) -> list[Entry]:
    return list({entry.bug: entry for entry in reversed(entries)}.values())[::-1]


def _about(entry: Entry) -> str:
    needs = f" Its smallest scenario has {entry.shape.about}." if entry.shape else ""
    return f"- `{entry.bug}`: {entry.about}.{needs}\n"


def _lines(rows: Iterable[Row]) -> str:
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)
