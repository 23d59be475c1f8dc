"""The screens of cases, the engines side by side where they differ, and the summary of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from job_harness.core.run.play import NO_LIMITS
from job_harness.core.run.verdict import Verdict
from job_harness.core.target import Target
from job_harness.errors import ExitCode
from job_harness.report.case import OWN, Case, exit_code_of, without_excused
from job_harness.report.screen import WIDTH, Line, clip, first_screen, one_line, replay_command, setting_text, wrap

# engines side by side -------------------------------------------------------------------------------------------------


NAME_WIDTH: Final = 44
LACKS: Final = "-"
"""The engine cannot do what the scenario needs: that is no difference."""


def side_by_side(cases: Sequence[Case]) -> list[Line]:
    """Return a table with a column for each engine of the scenarios on which they differ; empty where none do.

    Below it, for each engine, its first divergence from the first engine: documented, with the
    place, or an anomaly.
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
        about = f"{engine} first differs from {first} in {_short(case.name)}: {_explain(case)}"
        yield from (Line(text) for text in wrap("", about, width=WIDTH, lines=4))


def _explain(case: Case) -> str:
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
    gravest = case.run.lead
    return str(case.verdict) if case.verdict is not Verdict.FAIL or gravest is None else gravest.name


def _short(name: str) -> str:
    return "/".join(name.removesuffix(".yaml").split("/")[-2:])


# cases ----------------------------------------------------------------------------------------------------------------


WORDS = {
    ExitCode.PASS: ("pass", "green"),
    ExitCode.FAIL: ("FAIL", "bold red"),
    ExitCode.USAGE: ("USAGE", "bold red"),
    ExitCode.INCONCLUSIVE: ("inconclusive", "yellow"),
    ExitCode.ENVIRONMENT: ("ENVIRONMENT", "bold red"),
}


def replay_of(case: Case, *, seed: int | None = None, token: str | None = None, changes: Iterable[str] = ()) -> str:
    """Write the command that plays a case again; of a control, with its wrong queue or application and settings."""
    asked, control = Target.parse(case.engine), case.control
    own = case.scenario.application is not None and not asked.is_own
    engine = None if own else asked
    if control is None:
        return replay_command(case.scenario.path, engine=engine, seed=seed, token=token, changes=changes) + _limit_of(
            case
        )
    if own and control.application is not None:  # The run names it as it is found from here, not from its scenario.
        engine = Target.parse(control.application if case.run is None else case.run.engine)
    if control.queue is not None and engine is not None:
        engine = replace(engine.right, wrong_queue=control.queue)
    wrong = [f"{name}={setting_text(name, value)}" for name, value in control.settings.items()]
    return replay_command(case.scenario.path, engine=engine, seed=seed, token=token, changes=[*changes, *wrong])


def _limit_of(case: Case) -> str:
    """A run that was cut is cut again under the same limit; a step beyond it was asked for."""
    limit = case.run.steps - 1 if case.run is not None and case.run.cut else NO_LIMITS.steps
    return "" if limit == NO_LIMITS.steps else f" --steps {limit}"


def case_screen(
    case: Case, *, seed: int | None = None, token: str | None = None, changes: Iterable[str] = ()
) -> list[Line]:
    """Return what is printed of a case that is no pass."""
    replay = replay_of(case, seed=seed, token=token, changes=changes)
    title = f"{case.name} on {case.place}"
    run = case.run
    if run is not None and case.control is None and case.exit_code is ExitCode.FAIL:
        longer = [Line(f"It was still at work: --steps {10 * (run.steps - 1)} lets it continue.")] if run.cut else []
        return [*first_screen(run, title=title, replay=replay, file=case.scenario.path), *longer, Line("")]
    word, style = WORDS[case.exit_code]
    lines = [Line(clip(f"{word.upper()}  {one_line(title)}", WIDTH), style)]
    lines += [Line(text) for text in wrap("", case.headline, width=WIDTH, lines=6)]
    if case.control is not None and run is not None:
        lines += [Line(f"The control is at {case.scenario.path}:{case.line}.")]
    if case.error is not None and case.error.hint:
        lines.append(Line(one_line(case.error.hint)))  # Whole: a command in it is copied.
    return [*lines, *([] if case.skipped else [Line(f"Replay: {replay}")]), Line("")]


def summary(cases: Sequence[Case], *, planned: int, quiet: bool = False) -> list[Line]:
    """Return one line for each case (only those that are no pass when quiet), and the verdict of all."""
    counted = without_excused(cases)
    width = max((len(case.place) for case in counted), default=0)
    lines = [_line(case, width) for case in counted if not quiet or case.exit_code is not ExitCode.PASS]
    if len(cases) == planned == 1 and cases[0].exit_code is ExitCode.FAIL:
        lines = []  # Its screen has just said so.
    lines += side_by_side(counted)
    counts = {code: sum(case.exit_code is code and not case.differs for case in counted) for code in ExitCode}
    told = [f"{counts[code]} {WORDS[code][0].lower()}" for code in ExitCode if counts[code]]
    if differing := sum(case.differs for case in counted):
        told.append(f"{differing} different as documented")
    scenarios = len({case.scenario.path for case in cases})
    places = (case.place.partition("+")[0] if case.engine == OWN else case.place for case in cases)  # no safeguards
    engines = ", ".join(dict.fromkeys(places))
    controls = sum(case.control is not None for case in cases)
    with_controls = f" with {_count(controls, 'control')}" if controls else ""
    verdicts = ", ".join(told) or "nothing was run"
    about = f"{_count(scenarios, 'scenario')}{with_controls} on {engines or 'no engine'}: {verdicts}"
    lines.append(Line(about, WORDS[exit_code_of(cases)][1]))
    if len(counted) < len(cases):
        elsewhere = len(cases) - len(counted)
        lines.append(Line(f"{elsewhere} more ask for what their engine cannot do; another engine judged them."))
    if len(cases) < planned:
        lines.append(Line(f"Stopped after {len(cases)} of {planned}: the rest was not judged.", "yellow"))
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(case: Case, width: int) -> Line:
    word, style = ("different", "yellow") if case.differs else WORDS[case.exit_code]
    headline = f": {one_line(case.headline)}" if case.headline else ""
    return Line(clip(f"{word:<12}  {case.place:<{width}}  {one_line(case.name)}{headline}", 160), style)
