"""`job-harness conform`: how far queues conform, level by level."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any, Final, TypeVar

from job_harness.core.interruption import INTERRUPTIONS, exit_code_of
from job_harness.core.invariants import anomalies_named
from job_harness.core.port import Engine
from job_harness.core.target import Target
from job_harness.doors.cli.output import output_files
from job_harness.engines.conformance.judge import JUDGED, Conformance, Level, Mark, Result, conform
from job_harness.engines.conformance.outcomes import CASES, OutcomeCell, ask_engine, case_named
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError, UsageError, bounded
from job_harness.search.finding import broken_engine
from job_harness.search.targets import SESSIONS, WITHOUT, Engines, targets

TARGETS = "engines, or your own module:factory or file.py:factory, separated by commas (default: memory)"
FORMAT, VERSION = "job-harness-conformance", 1
ORDER = (ExitCode.FAIL, ExitCode.ENVIRONMENT, ExitCode.USAGE, ExitCode.INCONCLUSIVE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("targets", nargs="?", default="memory", metavar="ENGINES", help=TARGETS)
    add("--sessions", action="store_true", help=SESSIONS)
    add("--without", action="append", default=[], metavar="ANOMALY", help=WITHOUT)
    add("--level", action="append", default=[], choices=[str(level) for level in Level], help="run this level only")
    add(
        "--cases", action="store_true", help="print a row for each case and a column for each engine, with explanations"
    )
    add(
        "--outcomes",
        nargs="?",
        const=EVERY,
        metavar="CASE",
        help="instead, show what each engine does with results that are hard to store; with CASE, one step by step",
    )
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--quiet", "-q", action="store_true", help="leave out cases that an engine does not support")


def execute(arguments: argparse.Namespace) -> int:
    """Run the cases on each engine, and tell."""
    names = targets(arguments.targets, sessions=arguments.sessions)
    if not names:
        raise UsageError("no engine is named", hint="Write job-harness conform memory,postgres.")
    if arguments.outcomes is not None:
        if unused := [f"--{name}" for name in OF_CASES if getattr(arguments, name)]:
            raise UsageError(
                f"--outcomes prints a table of its own, and runs no cases: {', '.join(unused)} would do nothing",
                hint="Leave it out, or --outcomes.",
            )
        return _told_outcomes(names, arguments.outcomes)
    output = output_files(arguments, "json").get("json")
    levels = [Level(name) for name in arguments.level] or list(Level)
    without = anomalies_named(arguments.without)
    results, unjudged, interruption = _conformances(
        names, levels, quiet=arguments.quiet, cases=arguments.cases, without=without
    )
    if len(names) > 1:
        print("\n".join(table(results)))
    if arguments.cases:
        print("\n" * (len(names) > 1) + "\n".join(matrix(results)))
    codes = {result.exit_code for result in results} | {error.exit_code for error in unjudged.values()}
    exit_code = int(next((code for code in ORDER if code in codes), ExitCode.PASS))
    if interruption is not None:
        print("interrupted: the cases that are not named above were not run")
        exit_code = exit_code_of(interruption)
    if output is not None:
        output.write(json.dumps(_data(results, unjudged, exit_code=exit_code), indent=2) + "\n")
    return exit_code


def _data(results: Sequence[Conformance], unjudged: Mapping[str, HarnessError], *, exit_code: int) -> dict[str, Any]:
    others = [
        {"engine": name, "error": error.message, "exit_code": int(error.exit_code)} for name, error in unjudged.items()
    ]
    engines = [*(result.as_data() for result in results), *others]
    return {"format": FORMAT, "version": VERSION, "exit_code": exit_code, "engines": engines}


_Answer = TypeVar("_Answer")


def _answer(engine: Engine, name: str, ask: Callable[[Engine], _Answer]) -> _Answer:
    """Ask a queue. Raises UsageError for an application, and a HarnessError that names the engine where it breaks."""
    if engine.info.processes is not None:
        raise UsageError(
            f"{name} is an application: the suite calls the verbs of a queue, and it has none",
            hint=f"Search it instead: job-harness explore {name}.",
        )
    try:
        engine.info.prepare()
        return ask(engine)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        raise broken_engine(name, error) from error


def _conformances(
    names: list[Target], levels: list[Level], *, quiet: bool, cases: bool, without: frozenset[str]
) -> tuple[list[Conformance], dict[str, HarnessError], BaseException | None]:
    """Run all; return with it why engines were not judged, by name, and what ended it before its time."""
    results: list[Conformance] = []
    unjudged: dict[str, HarnessError] = {}
    with Engines(without=without) as engines:
        for name in names:
            done: list[Result] = []
            interruption: BaseException | None = None
            try:
                conformance = partial(conform, levels=levels, watch=done.append)
                results.append(_answer(engines.get(name), str(name), conformance))
            except INTERRUPTIONS as stop:
                interruption = stop
                results.append(Conformance(str(name), done))
            except HarnessError as error:
                unjudged[str(name)] = error
                told = sys.stdout if isinstance(error, EnvironmentUnavailable) else sys.stderr
                print(f"{bounded(str(name))}: not judged: {error}\n", file=told)
                continue
            print("\n".join(detail(results[-1], quiet=quiet, cases=cases)) + "\n")
            if interruption is not None:
                return results, unjudged, interruption
    return results, unjudged, None


EVERY: Final = ""
OF_CASES: Final = ("level", "cases", "json", "quiet", "without")
"""Options of which only the cases of the suite take notice."""


def _told_outcomes(names: list[Target], only: str) -> int:
    """Ask each engine, and print a table; of one case, what happened step by step."""
    asking = [case_named(only)] if only else list(CASES.values())
    cells: list[list[OutcomeCell]] = []
    code = ExitCode.PASS
    with Engines() as engines:
        for name in names:
            try:
                cells.append(
                    _answer(engines.get(name), str(name), lambda engine: [ask_engine(engine, case) for case in asking])
                )
            except HarnessError as error:
                code = error.exit_code
                print(f"{bounded(str(name))}: not asked: {error}\n")
    for row in cells if only else ():
        print("\n".join([f"{row[0].engine}, {only}: {row[0].word}", *(f"  {line}" for line in row[0].story)]))
    if not only:
        print("\n".join(outcome_table(cells)))
    return int(code)


def outcome_table(cells: Sequence[Sequence[OutcomeCell]]) -> Iterator[str]:
    """Print a row for each case and a column for each engine."""
    if not cells:
        return
    rows = [["outcome", *(row[0].engine for row in cells)]]
    rows += [[cell.case.name, *(row[number].word for row in cells)] for number, cell in enumerate(cells[0])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


WIDTH = 100
ASIDE = (Mark.KNOWN, Mark.DIFFERENT, Mark.SKIPPED)
SHOWN = (Mark.FAIL, Mark.OPEN, Mark.KNOWN, Mark.DIFFERENT, Mark.SKIPPED)


def detail(conformance: Conformance, *, quiet: bool = False, cases: bool = False) -> Iterator[str]:
    """Name every case that does not pass, whole where it fails; `quiet` leaves out what was never asked.

    What the queue does not claim to do is only counted, unless `cases` asks for each of them.
    """
    for mark in SHOWN:
        if quiet and mark in ASIDE:
            continue
        results = [result for result in conformance.results if result.mark is mark]
        if mark is Mark.SKIPPED and results and not cases:
            need = "case needs" if len(results) == 1 else "cases need"
            yield f"{mark:9} {len(results)} {need} what it does not declare: --cases names each, and what it lacks"
            continue
        for result in results:
            line = f"{mark:9} {result.case.level:9} {result.case.name}: {result.why}"
            yield from [_clipped(line)] if mark in (Mark.KNOWN, Mark.DIFFERENT) else _whole(line)
    for name in conformance.lies:
        yield f"lie       declares {name}, and none of the cases that need it passes"
    for name in conformance.unseen:
        yield f"unseen    jobs() shows {name} of no job that runs: set it, or what depends on it is not judged"
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


def _whole(line: str) -> list[str]:
    return wrap(line, width=WIDTH, subsequent_indent=" " * 20, break_long_words=False, break_on_hyphens=False)


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
        yield from _group_by_explanation(conformance)
    yield ""
    yield _total(conformances)


def _matrix_row(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name.ljust(width)}  {' '.join(cell.ljust(5) for cell in cells)}".rstrip()


def _cell(result: Result | None) -> str:
    return "" if result is None else CELLS[result.mark]


def _group_by_explanation(conformance: Conformance) -> Iterator[str]:
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
