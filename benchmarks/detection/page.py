"""Lays out what was measured as `benchmarks/results/detection.md`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TypeAlias

from detection.bugs import ELSEWHERE, PLANTED, RARE, UNDER, UNDRAWN
from detection.coverage import COLUMNS
from detection.measure import EXAMPLES, Density, Detection, Quiet
from job_harness.search.strategy import Strategy
from job_harness.search.wrong_queues import CATALOGUE, BlindSpot

Found: TypeAlias = dict[tuple[str, str], list[Detection]]
"""By wrong queue and way."""
Alarms: TypeAlias = tuple[str, tuple[int, int, int]]
"""A right queue, and its runs, steps and false alarms."""
DEFAULT = str(Strategy.PORTFOLIO)
ROWS_AIM = 12
SECONDS_AIM = 1.0
WORSE_AIM = 3.0
HEAD = """# Detection rates: how surely bugs are found

Written by

```
{command}
```

This page says how many runs and seconds it takes to find each planted bug. The same generic workload searches every
[wrong queue](../../docs/wrong_queues.md), in campaigns with different seeds. A campaign ends with the first run that
shows the anomaly of this bug. Seconds are CPU seconds until it was found *and* shrunk. {note}
"""


NOT_COMPARED = """
Other ways to look were not measured for this page: `make detection` without `--quick` does that, with 30
campaigns for each wrong queue, and takes far longer.
"""


def written(
    *,
    command: str,
    densities: Sequence[Density],
    detections: Sequence[Detection],
    alarms: Sequence[Alarms],
    compared: bool,
    seconds: float,
    when: str,
) -> str:
    """Return the page; `when` says when it was measured, and how busy the machine was."""
    found = _by(detections)
    note = f"The whole page took {seconds / 60:.0f} minutes, {when}."
    parts = [
        HEAD.format(command=command, note=note),
        _aims(densities, found, alarms),
        "\n## What is missed, and why\n\n" + _reasons(found),
        "\n## Every wrong queue\n\n" + _default_table(densities, found),
        "\n## Other ways to look\n\n" + _ways(densities, found) if compared else NOT_COMPARED,
        "\n## Right queues\n\n" + _alarms(alarms),
        "\n## Public bugs\n\n" + _bugs(found),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


GATE = ("<!-- gate -->\n", "<!-- /gate -->\n")
"""Between these stands the gate's table: it is made again without the rest of the page."""
QUIET = ("<!-- right -->\n", "<!-- /right -->\n")
"""And between these what was asked of right queues."""
ABOUT_SPOTS = """Each of these was once missed. The wrong queues represent it; with each are the campaigns that found
it, and the median of the runs. The last columns say how many runs of correct queues the same workload made there, and
in how many of them anything was reported.

"""


def spots(seen: dict[str, list[int | None]], right: Quiet, documented: Mapping[str, Quiet]) -> str:
    """Return the table of blind spots: what is seen of each by now, and that a right queue raises no alarm there."""
    rows = []
    for spot in BlindSpot:
        names = [name for name in seen if CATALOGUE[name].stands_for is spot]
        own = [documented[name] for name in names if name in documented]
        runs = sum(one.runs for one in own) if own else right.touched.get(str(spot), 0)
        alarms = sum(len(one.alarms) for one in own) if own else len(right.alarms)
        told = ", ".join(f"`{name}` ({_share(seen[name])}, {_middle(seen[name])})" for name in names)
        rows.append((str(spot), told or "none", str(runs), str(alarms)))
    head = ("blind spot", "wrong queues", "right queue, runs", "alarms")
    return f"## Blind spots\n\n{ABOUT_SPOTS}{_table(head, rows)}"


def _share(found: list[int | None]) -> str:
    return f"{sum(one is not None for one in found)}/{len(found)}"


def _middle(found: list[int | None]) -> str:
    return f"{median([math.inf if one is None else one for one in found]):.0f}"


def quiet_table(name: str, measured: Quiet, rows: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, list[str]]:
    """Return the table of one right queue, capability by setting in steps, and the cells that are empty."""
    count = measured.cells
    empty = [f"{row}, {column}" for row, columns in rows for column in columns if not count.get(f"{row}, {column}")]
    used = [column for column in COLUMNS if any(column in columns for _, columns in rows)]
    lines = [
        (f"`{row}`", *(_steps(count.get(f"{row}, {column}", 0)) if column in columns else "-" for column in used))
        for row, columns in rows
    ]
    kinds = sorted({cell.split(", ")[0] for cell in count if cell.startswith("fault: ")})
    lines += [(kind, *(_steps(count.get(f"{kind}, {column}", 0)) for column in used)) for kind in kinds]
    told = (
        f"### {name}: {measured.steps} steps in {measured.runs} runs, {len(measured.alarms)} false alarms\n\n"
        f"{_table(('', *used), lines)}"
    )
    return told, empty


def _steps(count: int) -> str:
    return (
        f"{count / 1_000_000:.1f}M" if count >= 1_000_000 else f"{count / 1_000:.0f}k" if count >= 1_000 else str(count)
    )


def quiet_section(tables: Sequence[str], *, command: str, date: str) -> str:
    """Return what was asked of right queues."""
    about = (
        f"Written by `{command}`, {date}. Steps of runs in which a capability was used under a setting that differs "
        "from the defaults; *as set*: under none that does. An empty cell fails, and so does a run of which anything "
        "is reported; `-` cannot be drawn.\n\n"
    )
    return f"{QUIET[0]}## Right queues: capability by setting\n\n{about}" + "\n".join(tables) + QUIET[1]


def gate(seen: dict[str, list[int | None]], spots_table: str, *, runs: int, date: str) -> str:
    """Return the table of the gate: in how many campaigns each wrong queue was seen, and after how many runs."""
    seeds = max(map(len, seen.values()))
    rows = [(f"`{name}`", _share(found), _quartiles(found, "{:.0f}")) for name, found in seen.items()]
    sure = sum(None not in found for found in seen.values())
    missed = sum(found.count(None) for found in seen.values())
    return (
        f"{GATE[0]}## Gate: {seeds} seeds over all wrong queues\n\n"
        f"Campaigns of at most {runs} runs, unshrunk, {date}, on a machine that others used too: runs count here, not "
        f"seconds. {sure} of {len(seen)} wrong queues were seen in every campaign; {missed} of {seeds * len(seen)} "
        'campaigns saw nothing. `make detection ARGS="--gate"` measures it, goes on where it was stopped, and fails '
        "where one is seen in fewer than nine of ten.\n\n"
        f"{_table(('wrong queue', 'seen', 'runs'), rows)}\n*runs*: median (lower, upper quartile).\n\n"
        f"{spots_table}{GATE[1]}"
    )


def with_part(text: str, table: str, marks: tuple[str, str] = GATE) -> str:
    """Put a table into the page, in the place of the one there or before what is missed."""
    before, found, rest = text.partition(marks[0])
    if found:
        return before + table + rest.partition(marks[1])[2]
    head = "## What is missed, and why\n"
    before, found, rest = text.partition(head)
    return f"{before}{table}\n{found}{rest}"


def keeping_parts(text: str, before: str) -> str:
    """Put the tables of the gate and of the right queues, which are measured apart, into a new page."""
    for marks in (GATE, QUIET):
        _, found, rest = before.partition(marks[0])
        if found:
            text = with_part(text, marks[0] + rest.partition(marks[1])[0] + marks[1], marks)
    return text


def fixes(tried: dict[str, list[tuple[str, int]]], *, fresh: int) -> str:
    """Say which settings were named as fixes, and which of them are none."""
    lines = [
        f"{'WRONG' if seen else 'holds'}  {name}: {change}, shows in {seen} of {fresh} fresh runs"
        for name, counted in tried.items()
        for change, seen in counted
    ]
    wrong = sum(line.startswith("WRONG") for line in lines)
    return "\n".join([*lines, f"{len(lines)} settings named as fixes of {len(tried)} findings, {wrong} of them wrong"])


def _by(detections: Iterable[Detection]) -> Found:
    found: Found = {}
    for item in detections:
        found.setdefault((item.mistake, str(item.way)), []).append(item)
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _aims(
    densities: Sequence[Density],
    found: Found,
    alarms: Sequence[Alarms],
) -> str:
    names = [item.mistake for item in densities]
    all_of = {name: found[name, DEFAULT] for name in names}
    sure = [name for name, items in all_of.items() if all(item.runs is not None for item in items)]
    slow = [name for name, items in all_of.items() if _median_seconds(items) > SECONDS_AIM]
    large = [name for name, items in all_of.items() if max((item.rows for item in items), default=0) > ROWS_AIM]
    worse = [name for name in names if (ratio := _ratio(found, name)) is not None and ratio > WORSE_AIM]
    false = sum(count for _, (_, _, count) in alarms)
    rows = [
        ("every wrong queue found in every campaign", f"{len(sure)} of {len(names)}", _missed(set(names) - set(sure))),
        ("median below 1 s of CPU", f"{len(names) - len(slow)} of {len(names)}", _missed(slow)),
        (f"left with at most {ROWS_AIM} rows", f"{len(names) - len(large)} of {len(names)}", _missed(large)),
        ("no false alarm on a right queue", f"{false} alarms", ""),
    ]
    if any(way == str(Strategy.UNIFORM) for _, way in found):
        met = f"{len(names) - len(worse)} of {len(names)}"
        rows.append(("never over 3x the runs of uniform sampling", met, _missed(worse)))
    return "\n" + _table(("aim", "met", "missed by"), rows)


def _reasons(found: Found) -> str:
    """Say of each wrong queue that is missed, or is found late, what has to come together for it."""
    lines = []
    for (name, way), items in sorted(found.items()):
        seen = [item.runs for item in items if item.runs is not None]
        slow = _median_seconds(items) > SECONDS_AIM
        if way == DEFAULT and (len(seen) < len(items) or slow):
            why = RARE.get(name, "unknown, beyond its density below")
            late = ", over the aim in its median" if slow and len(seen) == len(items) else ""
            lines.append(f"- `{name}`: found in {len(seen)} of {len(items)} campaigns{late}. Why: {why}.\n")
    lines += [f"- `{name}`: not looked for here. Why: {why}.\n" for name, why in UNDRAWN.items()]
    under = ", ".join(f"`{name}`" for name in UNDER)
    return (
        "".join(lines)
        + "\nA campaign that finds nothing proves nothing; a longer one may find more.\n"
        + f"\n{under} are searched with a lease of 4 minutes that heartbeats extend; all others with the defaults.\n"
    )


def _missed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _default_table(densities: Sequence[Density], found: Found) -> str:
    rows = []
    for item in densities:
        campaigns = found[item.mistake, DEFAULT]
        detected = [one for one in campaigns if one.runs is not None]
        replayed = max((one.replayed for one in campaigns if one.seed == 0), default=0)
        rows.append(
            (
                f"`{item.mistake}`",
                f"{100 * item.reached / item.runs:.0f} %",
                f"{item.hits} in {item.runs}",
                f"{len(detected)}/{len(campaigns)}",
                _quartiles([one.runs for one in campaigns], "{:.0f}"),
                _quartiles([one.seconds if one.runs is not None else None for one in campaigns], "{:.2f}"),
                f"{max((one.rows for one in detected), default=0)}",
                f"{replayed}/100" if replayed else "-",
            )
        )
    head = ("wrong queue", "reached", "density", "detected", "runs", "CPU s", "rows", "replays")
    return (
        _table(head, rows)
        + "\n*reached*: uniform random runs that execute the wrong code at all; *density*: those that show the "
        "anomaly, counted until 100 are seen; *runs*, *CPU s*: median (lower, upper quartile) over the campaigns, "
        "those that found nothing counted as infinitely long; *rows*: jobs, workers beyond the first and deviations "
        "that are left, at most; *replays*: of what the first campaign found, if it did.\n"
    )


def _quartiles(values: Sequence[float | None], form: str) -> str:
    sorted_values = sorted(float("inf") if value is None else float(value) for value in values)
    last = len(sorted_values) - 1
    low, high = sorted_values[last // 4], sorted_values[-(-3 * last // 4)]
    return f"{_said(median(sorted_values), form)} ({_said(low, form)}, {_said(high, form)})"


def _said(value: float, form: str) -> str:
    return "never" if value == float("inf") else form.format(value)


def _median_seconds(items: Sequence[Detection]) -> float:
    return median(item.seconds if item.runs is not None else float("inf") for item in items)


def _median_runs(items: Sequence[Detection]) -> float:
    return median(float("inf") if item.runs is None else item.runs for item in items)


def _ratio(found: Found, name: str) -> float | None:
    ours, uniform = found.get((name, DEFAULT)), found.get((name, str(Strategy.UNIFORM)))
    if not ours or not uniform or _median_runs(uniform) == float("inf"):
        return None
    return _median_runs(ours) / _median_runs(uniform)


def _ways(densities: Sequence[Density], found: Found) -> str:
    ways = [DEFAULT, *dict.fromkeys(way for _, way in found if way != DEFAULT)]
    timed = [way for way in (DEFAULT, "hypothesis") if way in ways]
    rows = [
        (
            f"`{item.mistake}`",
            *(_said(_median_runs(found[item.mistake, way]), "{:.0f}") for way in ways),
            *(f"{_said(_median_seconds(found[item.mistake, way]), '{:.2f}')}" for way in timed),
        )
        for item in densities
    ]
    head = ("wrong queue", *(f"{way}, runs" for way in ways), *(f"{way}, s" for way in timed))
    alone = (
        f"Hypothesis alone draws at most {EXAMPLES} examples of `LifecycleMachine`, unshrunk, and counts any breach."
        if "hypothesis" in ways
        else "Hypothesis alone was not measured with these numbers; `benchmarks/explorer.py` has six queues of it."
    )
    return f"{_table(head, rows)}\nMedians. {alone}\n"


def _alarms(alarms: Sequence[Alarms]) -> str:
    rows = [(name, str(runs), str(steps), str(count)) for name, (runs, steps, count) in alarms]
    return _table(("queue", "runs", "steps", "false alarms"), rows)


def _bugs(found: Found) -> str:
    rows = []
    for bug, mistake in PLANTED.items():
        items = found.get((mistake, DEFAULT), [])
        seen = sum(item.runs is not None for item in items)
        rows.append(
            (f"`{bug}`", f"`{mistake}`", f"{seen}/{len(items)}", _said(_median_runs(items), "{:.0f}") if items else "-")
        )
    lines = _table(("public bug", "wrong queue", "found", "runs"), rows)
    if ELSEWHERE:
        lines += "\nNot planted in the model queue:\n\n" + "".join(
            f"- `{bug}`: {why}\n" for bug, why in ELSEWHERE.items()
        )
    return lines
