"""What a campaign met, on a screen and as JSON: situations, faults by position, what was new at the end."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from job_harness import __version__
from job_harness.core.faults import kinds
from job_harness.core.invariants import gravity, kind_of
from job_harness.core.invariants.catalogue import level, lost
from job_harness.core.port import Capabilities, EngineInfo, WrittenSource
from job_harness.core.run.verdict import Run, fix_line
from job_harness.errors import ExitCode
from job_harness.report.blame import frames_of
from job_harness.report.ci import CiResult
from job_harness.report.json_report import run_data
from job_harness.report.screen import Line, changed_settings, clip, pad, wrap
from job_harness.search.coverage import EXPECTED, Cell, declared_situations
from job_harness.search.finding import Campaign, ScenarioFinding
from job_harness.search.sampling import CampaignPlan, Shard

WIDTH = 80
ROWS = 12
"""Of the table of faults; what is rarer is in the JSON."""
NEVER = "."
"""What stands in a table for nothing."""
FEWEST = 10
"""Fewer runs than this say nothing of what is still new."""
LABEL = 26
"""The width of the table's first column."""


class Told(NamedTuple):
    """What was said of a finding."""

    written: str
    """Where its scenario is; empty where it could not be written."""
    problem: str
    """Why it could not."""
    replays: dict[str, str]
    """By engine, what replaying it came to."""
    replay: str
    """The command that plays it again."""
    screen: str
    """The first screen."""
    run: Run
    """What happened, and what fixes it."""


def gravest_first(campaign: Campaign) -> list[ScenarioFinding]:
    """Return what a campaign found, in the order in which it is told."""
    return sorted(campaign.findings, key=lambda finding: gravity(finding.anomaly))


def level_lines(level: str, found: Collection[str], runs: int) -> list[Line]:
    """Say what is left of the target's promises; what a few runs did not break need not hold."""
    few = "1 run shows: the search ended with it"
    shown = f", as far as {few if runs == 1 else f'{runs} runs show'}" if found else ""
    return [Line(line) for line in wrap("Guarantees: ", f"{level}{shown}.", width=WIDTH, lines=2)]


def level_of(found: Collection[str], runs: int, given_up: Collection[str]) -> str:
    """Return what is left of a target's promises after N runs, where its own file gives up some."""
    return level({*found, *given_up}) if runs or found else "not known, for no run was judged"


def given_up(info: EngineInfo, found: Collection[str]) -> list[str]:
    """Return the anomalies that a target's own file says are meant to be so.

    A queue without fencing counts as that once something else is lost: until then, no promise was
    seen to break. Of processes it is judged, by their rows.
    """
    intended = sorted(info.contract.intended)
    unfenced = info.processes is None and not info.capabilities.fencing
    return [*intended, "stale_complete"] if (found or intended) and unfenced else intended


def campaign_lines(campaign: Campaign, capabilities: Capabilities, *, whole: bool) -> list[Line]:
    """Return what was covered: in a few lines, or with `whole` in two tables, at most 36 lines."""
    if not campaign.coverage.observed:
        return []
    tables = [*_situations(campaign, capabilities), *_faults(campaign)] if whole else _brief(campaign, capabilities)
    return [*tables, *_novelty(campaign), *_trouble(campaign)]


def _brief(campaign: Campaign, capabilities: Capabilities) -> list[Line]:
    """Say which situations never came up, and how often each fault struck."""
    coverage = campaign.coverage
    declared = [item.name for item in declared_situations(capabilities, stepwise=not campaign.stock)]
    unseen = [name for name in declared if not coverage.situations[name]]
    told = f"Situations: {len(declared) - len(unseen)} of {len(declared)} came up"
    told += f"; never: {'; '.join(unseen)}." if unseen else "."
    struck = [f"{name} {count}" for name, count in _struck(campaign).most_common()]
    faults = f"Faults: {', '.join(struck)}." if struck else "Faults: none."
    lines = [*wrap("", told, width=WIDTH, lines=3), *wrap("", faults, width=WIDTH, lines=3)]
    return [Line(_sampled(campaign), "bold"), *map(Line, lines), Line("--coverage shows both as tables.")]


def _sampled(campaign: Campaign) -> str:
    """Say how many runs the figures are of: one in four is looked at."""
    return (
        f"Coverage, sampled from {campaign.coverage.observed} of {max(campaign.runs, campaign.coverage.observed)} runs:"
    )


def _struck(campaign: Campaign) -> Counter[str]:
    """Count the strikes of each kind of fault, also of one that only another installation knows."""
    named: dict[str, str] = {}
    for kind in kinds().values():
        names = {name for name, _ in kind.columns} or ({kind.id} if kind.mark else set(kind.events))
        named |= dict.fromkeys(names, kind.nouns[1] or f"{kind.id}s")
    struck: Counter[str] = Counter()
    for cell, count in campaign.coverage.faults.items():
        struck[named.get(cell.fault, cell.fault)] += count
    return struck


def _situations(campaign: Campaign, capabilities: Capabilities) -> list[Line]:
    coverage = campaign.coverage
    observed = coverage.observed
    lines = [Line(_sampled(campaign), "bold"), Line(f"Situations, in % of those runs ({NEVER} = never):", "bold")]
    cells = []
    for item in declared_situations(capabilities, stepwise=not campaign.stock):
        count = coverage.situations[item.name]
        share = f"{100 * count / observed:.1f}" if count else NEVER
        cells.append(pad(item.name, 33) + f"{share:>5}")
    half = (len(cells) + 1) // 2
    lines.extend(Line(clip("   ".join(cells[index::half]), WIDTH)) for index in range(half))
    return lines


def _faults(campaign: Campaign) -> list[Line]:
    """Lay out where faults struck; what has no columns is counted below the table."""
    cells = campaign.coverage.faults
    columns = [column for kind in kinds().values() for column in kind.columns]
    named = {name for name, _ in columns}
    rows: Counter[tuple[str, str]] = Counter()
    for cell, count in cells.items():
        if cell.fault in named:
            rows[cell.status, cell.position] += count
    others = _others(campaign, named)
    if not rows and not others:
        return [Line("No fault struck a run that was looked at.")]
    lines = _head([head for _, head in columns])
    shown = [row for row, _ in rows.most_common()][:ROWS]
    for status, position in shown:
        counts = "".join(f"{cells[Cell(status, position, name)] or NEVER:>{_width(head)}}" for name, head in columns)
        lines.append(Line(pad(clip(f"{status} {position}", LABEL - 1), LABEL) + counts))
    others += [f"{len(rows) - len(shown)} rarer rows are in --json"] if len(rows) > len(shown) else []
    told = "; ".join(others)
    return [*lines, *(Line(text) for text in wrap("", f"{told[:1].upper()}{told[1:]}.", width=WIDTH, lines=3) if told)]


def _others(campaign: Campaign, named: set[str]) -> list[str]:
    """Say how often each kind struck that has no columns, also one that only another installation knows."""
    struck: Counter[str] = Counter()
    for cell, count in campaign.coverage.faults.items():
        struck[cell.fault] += count
    told = []
    for kind in kinds().values():
        names = {kind.id} if kind.mark else set(kind.events)
        if not kind.columns and (count := sum(struck[name] for name in names)):
            told.append(f"{kind.tally or f'{kind.id} struck'} {_times(count)}")
            named |= names
    strange = sorted(struck.keys() - named)
    return told + [f"{name} struck {_times(struck[name])}" for name in strange]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _width(head: str) -> int:
    return max(map(len, head.split())) + 2


def _head(heads: list[str]) -> list[Line]:
    """Set the heads of two words on two lines."""
    words = [head.split() for head in heads]
    above = "".join(f"{parts[0] if len(parts) > 1 else '':>{_width(' '.join(parts))}}" for parts in words)
    below = "".join(f"{parts[-1]:>{_width(' '.join(parts))}}" for parts in words)
    return [
        Line((" " * LABEL + above).rstrip(), "bold"),
        Line(pad("Faults: status, actor at", LABEL) + below, "bold"),
    ]


def _novelty(campaign: Campaign) -> list[Line]:
    novelty = campaign.coverage.novelty()
    if novelty.last < FEWEST:
        return [Line(f"{novelty.states} different states were seen.")]
    told = (
        f"Still finding new states ({novelty.share:.0%} of the last {novelty.last} runs looked at): search longer."
        if novelty.new
        else f"No new state in the last {novelty.last} runs looked at."
    )
    return [
        Line(line) for line in wrap("", f"{told} {novelty.states} different states were seen.", width=WIDTH, lines=2)
    ]


def _trouble(campaign: Campaign) -> list[Line]:
    lines = []
    for item in campaign.missing:
        due = round(item.share * campaign.coverage.observed)
        lines.append(Line(clip(f"Never occurred: {item.name} (expected in at least {due} runs).", WIDTH), "bold red"))
    if campaign.missing:
        text = f"What should occur {EXPECTED} times and never did was not tested: the campaign fails."
        lines.append(Line(clip(text, WIDTH)))
    return lines


# for CI -------------------------------------------------------------------------------------------------------------


def finding_results(engine: str, told: Mapping[str, Told]) -> list[CiResult]:
    """Return each finding of a search as CI shows it: where the mistake is written, else at the scenario for it."""
    return [
        finding_result(engine, anomaly, one.screen, _place(one, anomaly), "".join(fix_line(one.run.trials)))
        for anomaly, one in told.items()
    ]


def _place(told: Told, anomaly: str) -> tuple[str, int]:
    """Return the last line of the user's own code that an anomaly turns on; else where the mistake is written."""
    frames = frames_of(told.run, anomaly)
    if not frames:
        return place_of(told.run.source, told.written)
    return os.path.relpath(frames[-1].at.file), frames[-1].at.line


def finding_result(engine: str, anomaly: str, screen: str, place: tuple[str, int], fix: str = "") -> CiResult:
    """Return one finding as CI shows it."""
    title = f"{anomaly} (found by a search)"
    sentence = f"{anomaly}: {kind_of(anomaly).sentence}"
    return CiResult(engine, anomaly, "failure", sentence, screen, anomaly, title, *place, fix=fix)


def place_of(source: WrittenSource | None, written: str) -> tuple[str, int]:
    """Return the file and the line where a mistake is written, else the scenario that was written for it."""
    told = re.match(r"(.+?):(\d+)\b", source.title) if source else None
    return (written, 1) if told is None else (told[1], int(told[2]))


def search_result(engine: str, code: ExitCode, message: str) -> CiResult:
    """Return a search without a finding as CI shows it: a pass, a failure, or not judged."""
    outcome = {ExitCode.PASS: "", ExitCode.FAIL: "failure", ExitCode.INCONCLUSIVE: "skipped"}.get(code, "error")
    return CiResult(engine, "search", outcome, message if outcome else "", message if outcome else "", "search")


# as JSON ------------------------------------------------------------------------------------------------------------


def campaign_data(
    campaign: Campaign,
    info: EngineInfo,
    *,
    told: Mapping[str, Told],
    plan: CampaignPlan,
    command: str,
    seconds: float,
    planned: int,
) -> dict[str, Any]:
    """Return everything that the screen says, and the rows that it leaves out; `planned` runs have all shards.

    `command` does these runs again, once it is told their seed, how many, and what to look for.
    """
    allowed = given_up(info, campaign.found)
    return {
        "format": "job-harness-exploration",
        "version": 1,
        "engine": campaign.engine,
        "verdict": str(campaign.verdict),
        "interrupted": campaign.interrupted,
        "command": command,
        "strategy": plan.strategy,
        "left_out": sorted(plan.left_out),
        "looking_for": sorted(plan.looking_for),
        "without": sorted(plan.without),
        "keep_going": plan.keep_going,
        "step_limit": plan.steps,
        "seed": campaign.seed,
        "runs": campaign.runs,
        "steps": campaign.steps,
        "cut": campaign.cut,
        "seconds": round(seconds, 3),
        "settings": {name: value for name, (value, _) in changed_settings(plan.settings).items()},
        "level": level_of(campaign.found, campaign.runs, allowed),
        "given_up": allowed,
        "guarantees_lost": [str(item) for item in lost(campaign.found)],
        "findings": [finding_data(finding, told[finding.anomaly]) for finding in gravest_first(campaign)],
        "not_shown": [{"anomaly": hit.anomaly, "run": hit.number} for hit in campaign.unshown],
        "coverage": _coverage(campaign, info.capabilities),
        "unsteady": None if campaign.unsteady is None else str(campaign.unsteady),
        "trouble": None if campaign.trouble is None else campaign.trouble.message,
        "shard": _shard(campaign, plan.shard, planned),
    }


def _coverage(campaign: Campaign, capabilities: Capabilities) -> dict[str, Any]:
    coverage = campaign.coverage
    novelty = coverage.novelty()
    return {
        "observed_runs": coverage.observed,
        "situations": {
            item.name: coverage.situations[item.name]
            for item in declared_situations(capabilities, stepwise=not campaign.stock)
        },
        "never_occurred": [item.name for item in campaign.missing],
        "faults": [{**cell._asdict(), "count": count} for cell, count in sorted(coverage.faults.items())],
        "states": novelty.states,
        "last_runs": novelty.last,
        "last_runs_with_a_new_state": novelty.new,
        "new_states": [{"runs": runs, "new": new} for runs, new in coverage.growth()],
    }


def _shard(campaign: Campaign, shard: Shard, planned: int) -> dict[str, Any]:
    """Return what `job-harness merge` needs of one part of a campaign; a whole one names no states."""
    seen = campaign.coverage.first_seen() if shard.of > 1 else ()
    return {
        "index": shard.index,
        "of": shard.of,
        "runs": planned,
        "program": __version__,
        "demanded": campaign.stock,
        "first_seen": [{"run": run, "states": states} for run, states in seen],
    }


def finding_data(finding: ScenarioFinding, told: Told) -> dict[str, Any]:
    """Return a finding as data."""
    kind = kind_of(finding.anomaly)
    return {
        "anomaly": finding.anomaly,
        "sentence": kind.sentence,
        "guarantee_lost": str(kind.guarantee),
        "also": sorted(finding.run.found - {finding.anomaly}),
        "seed": finding.seed,
        "found_after_runs": finding.runs,
        "shrink_runs": finding.shrink_runs,
        "minimal": finding.minimal,
        "drawn": finding.drawn,
        "written": told.written or None,
        "not_written": told.problem or None,
        "jobs": [job.name for job in finding.scenario.jobs],
        "workers": list(finding.scenario.workers),
        "tape": [str(item) for item in finding.scenario.tape],
        "replays": told.replays,
        "replay": told.replay or None,
        "source": [] if told.run.source is None else [told.run.source.title, *told.run.source.lines],
        "run": run_data(told.run, lead=finding.anomaly),
    }
