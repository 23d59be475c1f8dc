"""The page of a queue, and the table of all: what was promised, and what a search saw of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Final

from job_harness.core.invariants import kind_of
from job_harness.core.invariants.property import Guarantee
from queues.catalogue import COLUMNS, FOLDER, QueueAbout, setting_text
from queues.judged import SEED, JudgedColumn, QueueFinding

INDEX: Final = FOLDER / "README.md"
SHOWN: Final = (
    Guarantee.AT_LEAST_ONCE, Guarantee.ONE_AT_A_TIME, Guarantee.FENCING, Guarantee.BOUNDED_ATTEMPTS,
    Guarantee.TRUTHFUL_RESULT, Guarantee.SCHEDULE, Guarantee.UNIQUENESS, Guarantee.CANCELLATION, Guarantee.ISOLATION,
)  # fmt: skip
"""What the table of all has a column for; a page has every guarantee that is promised, documented or was lost."""
SHORT: Final[Mapping[Guarantee, str]] = {
    Guarantee.AT_LEAST_ONCE: "every job ends",
    Guarantee.ONE_AT_A_TIME: "one run at a time",
    Guarantee.FENCING: "late workers fenced",
    Guarantee.BOUNDED_ATTEMPTS: "attempts bounded",
    Guarantee.TRUTHFUL_RESULT: "truthful status",
    Guarantee.SCHEDULE: "times and order kept",
    Guarantee.UNIQUENESS: "unique keys",
    Guarantee.CANCELLATION: "cancel holds",
    Guarantee.ISOLATION: "bad jobs isolated",
}
MARKS: Final[Mapping[str, str]] = {
    "kept": "promised, and no run of the search broke it",
    "kept in part": "promised, and no run broke it, except for what the manual says is not kept, at the place named",
    "broken": "promised, and the run on its page breaks it",
    "documented": "a run breaks it, and the manual says that this can happen, at the place named",
    "found": "a run breaks it, and the manual neither promises it nor says that it is not kept",
    "at risk": "no run broke it, but the run on its page shows what may break it next",
    "not promised": "the manual does not promise it, and no run broke it",
    "not tried": "promised, and nothing here asks for it, so that no search can say",
    "not judged": "the search did not end or was inconclusive, or the queue could not be run: the page says why",
}
ROW: Final = re.compile(r"^\| (?P<guarantee>[a-z][^|]*) \| (?P<default>[a-z ]+) \| (?P<recommended>[a-z ]+) \|", re.M)
SECONDS: Final = re.compile(r"^Command: .*, (\d+) s\.$", re.M)
RUN: Final = re.compile(r"^Release (?P<release>\S+), (?P<kind>real|modelled), .*on (?P<date>\S+)\.$", re.M)


def page(about: QueueAbout, columns: Mapping[str, JudgedColumn], *, date: str) -> str:
    """Return the page of one queue."""
    first = columns[COLUMNS[0]]
    seconds = sum({column.target: column.seconds for column in columns.values()}.values())
    lines = [
        f"# {about.title}",
        "",
        "<!-- written by make queues: change about.yaml and run it again -->",
        "",
        f"Release {first.target.release}, {about.kind}, searched with seed {SEED} on {date}.",
        "",
        f"What runs: {about.reads}.",
        "",
        *([about.notes, ""] if about.notes else []),
        "| settings | value | why | runs | seconds |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {_cell(setting_text(about.settings.get(name, {})) or 'as they are')}{_suffix(about, name)} "
            f"| {_cell(about.why.get(name, ''))} | {column.runs} | {column.seconds} |"
            for name, column in columns.items()
        ),
        "",
        f"Command: `make queues ARGS={about.name}`, {seconds} s.",
        "",
        "| guarantee | default | recommended | place in the manual |",
        "| --- | --- | --- | --- |",
        *_guarantee_rows(about, columns),
        "",
        *(_not_judged(name, column) for name, column in columns.items() if column.problem),
        *_histories(columns),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def releases_page(about: QueueAbout, columns: Mapping[str, JudgedColumn], *, date: str) -> str:
    """Return the table of several releases of one queue: where a guarantee was lost, the anomalies that show it."""
    lost = sorted({guarantee for column in columns.values() for guarantee in column.findings}, key=lambda one: one.rank)
    lines = [
        f"# {about.title}, release by release",
        "",
        f"Each release was searched under recommended settings, with seed {SEED}, on {date}. A dot: nothing was found.",
        "",
        f"| guarantee | {' | '.join(columns)} |",
        f"| --- | {' | '.join('---' for _ in columns)} |",
    ]
    for guarantee in lost:
        cells = [
            "not judged" if column.problem else ", ".join(f.anomaly for f in column.findings.get(guarantee, ())) or "·"
            for column in columns.values()
        ]
        lines.append(f"| {guarantee.value} | {' | '.join(cells)} |")
    lines.append(f"| runs | {' | '.join(str(column.runs) for column in columns.values())} |")
    lines.append(f"| seconds | {' | '.join(str(column.seconds) for column in columns.values())} |")
    lines += ["", *(f"- {turn}" for turn in turns(columns))]
    lines += [f"\n{_not_judged(name, column)}" for name, column in columns.items() if column.problem]
    command = f'make queues ARGS="{about.name} --releases {" ".join(columns)}"'
    return "\n".join([*lines, "", f"Command: `{command}`."]) + "\n"


def turns(columns: Mapping[str, JudgedColumn]) -> list[str]:
    """Say from which release on a guarantee is lost, or no longer is; releases that were not judged are left out."""
    judged = [(name, set(column.findings)) for name, column in columns.items() if not column.problem]
    said = []
    for (before, lost), (after, lost_now) in pairwise(judged):
        for guarantee in sorted(lost ^ lost_now, key=lambda one: one.rank):
            here, there = ("lost", "not seen lost") if guarantee in lost_now else ("not seen lost", "lost")
            said.append(f"{guarantee.value}: {here} from {after} on, {there} in {before}")
    return said or ["no difference between these releases: each loses the same guarantees"]


def _suffix(about: QueueAbout, column: str) -> str:
    word = about.engine.get(column, "").partition("/")[2]
    return f" (`/{word}`)" if word else ""


def _cell(text: str) -> str:
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text.replace("\n", " "))
    return shown.replace("|", "\\|")


def _not_judged(name: str, column: JudgedColumn) -> str:
    return f"Not judged, {name}: {column.problem.rstrip('.')}."


def _guarantee_rows(about: QueueAbout, columns: Mapping[str, JudgedColumn]) -> list[str]:
    lost = {guarantee for column in columns.values() for guarantee in column.findings}
    excused = dict(columns[COLUMNS[-1]].target.documented)
    named = sorted({*SHOWN, *about.promises, *about.documented, *lost, *excused}, key=lambda guarantee: guarantee.rank)
    rows = []
    for guarantee in named:
        marks = " | ".join(columns[name].mark(about, guarantee) for name in COLUMNS)
        promised = about.promises.get(guarantee, "")
        not_kept = about.documented.get(guarantee, excused.get(guarantee, ""))
        said = promised if not not_kept else f"{promised}; not where {not_kept}" if promised else f"not: {not_kept}"
        rows.append(f"| {guarantee.value} | {marks} | {_cell(said)} |")
    return rows


def _histories(columns: Mapping[str, JudgedColumn]) -> list[str]:
    """Return each history once, with the settings under which it was found."""
    shown: dict[QueueFinding, list[str]] = {}
    for name, column in columns.items():
        for finding in chain.from_iterable(column.findings.values()):
            shown.setdefault(finding, []).append(name)
    lines: list[str] = []
    for finding, names in shown.items():
        kind = kind_of(finding.anomaly)
        lines += ["", f"## {finding.anomaly}, {' and '.join(names)} settings", "", f"{kind.label}: {kind.guarantee}."]
        lines += ["", f"Here: {_cell(finding.here)}.", ""]
        lines += ["| time | who | what |", "| --- | --- | --- |"]
        lines += [f"| {_cell(at)} | {_cell(who)} | {_cell(what)} |" for at, who, what in finding.rows]
        lines += ["", *finding.story]
        heals = f"Healed by: {', '.join(finding.heals)}." if finding.heals else "No setting that was tried heals it."
        lines += ["", heals]
    return lines


def marks_of(text: str) -> dict[str, tuple[str, str]]:
    """Read the marks that a page has: by guarantee, those of both columns."""
    return {
        row["guarantee"]: (row["default"], row["recommended"]) for row in ROW.finditer(text) if row["default"] in MARKS
    }


def index(abouts: Sequence[QueueAbout], pages: Mapping[str, str]) -> str:
    """Return the table of all queues from their pages."""
    heads = [f"{SHORT[guarantee]}" for guarantee in SHOWN]
    minutes = round(sum(int(took) for text in pages.values() for took in SECONDS.findall(text)) / 60)
    lines = [
        "# Other projects' queues, checked against their own manuals",
        "",
        "Written by `make queues`, which searches the newest release of each under its default settings and under",
        "those that its manual recommends, and writes a page for each. A cell has the mark under default settings,",
        "and after an arrow the one under recommended settings, where that differs. A search is a sample: *kept* means",
        "that no run broke it, and each page says how many runs there were.",
        "",
        "*Real*: the queue's own statements, read from the installed package when the search runs, or its own code in",
        "a child process. *Modelled*: our SQL after the source of a queue in another language; what is found there is",
        "not counted as a finding on the queue.",
        "",
        f"The searches of all pages took {minutes} minutes together, two at a time: `make queues`. Each ends by its",
        "number of runs and not by time, so that a second run gives the same marks: `make queues ARGS=--check`.",
        "",
        *(f"- **{mark}**: {meaning}" for mark, meaning in MARKS.items()),
        "",
        f"| queue | release | kind | {' | '.join(heads)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in heads)} |",
    ]
    for about in abouts:
        if about.name not in pages:
            continue
        text = pages[about.name]
        run = RUN.search(text)
        assert run is not None, about.name
        marks = marks_of(text)
        cells = [_both(marks.get(guarantee.value, ("not judged", "not judged"))) for guarantee in SHOWN]
        lines.append(
            f"| [{about.title}]({about.name}/README.md) | {run['release']} | {run['kind']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _both(marks: tuple[str, str]) -> str:
    default, recommended = (f"**{mark}**" if mark in ("broken", "found") else mark for mark in marks)
    return default if default == recommended else f"{default} → {recommended}"
