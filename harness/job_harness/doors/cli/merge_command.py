"""`job-harness merge`: the parts of a campaign, done on several machines, as the one campaign that they are."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from job_harness import __version__
from job_harness.core.invariants.catalogue import gravity, kind_of, lost
from job_harness.core.port import WrittenSource
from job_harness.core.printable import printable
from job_harness.core.run.verdict import Verdict
from job_harness.core.target import Target
from job_harness.doors.cli.campaign_screen import finding_result, level_lines, level_of, place_of, search_result
from job_harness.doors.cli.output import (
    ANNOTATIONS,
    OutputFile,
    annotate,
    checked_folder,
    make_folder,
    output_files,
    show_lines,
)
from job_harness.errors import UsageError, clipped
from job_harness.report.ci import CiResult, junit_xml
from job_harness.report.json_report import schema
from job_harness.report.picture import picture
from job_harness.report.screen import Line, moment, one_line, wrap
from job_harness.report.trace import trace
from job_harness.search.coverage import SITUATIONS, Coverage, overlooked
from job_harness.search.sampling import Shard

FORMAT: Final = "job-harness-exploration"
SAME: Final = (
    "engine",
    "strategy",
    "left_out",
    "seed",
    "settings",
    "looking_for",
    "without",
    "keep_going",
    "step_limit",
)
"""What parts of one campaign have in common."""
SUMMED: Final = ("runs", "steps", "cut", "seconds")
HINT: Final = "Give the --json files of `job-harness explore --shard K/N`, each once."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="the file that `explore --shard K/N --json FILE` wrote, one for each part",
    )
    add("--issues", metavar="FOLDER", help="write the text of an issue for each anomaly, as FOLDER/ANOMALY.md")
    add("--json", metavar="FILE", help="write the whole search as JSON, in the form of `explore --json`")
    add("--html", metavar="FILE", help="draw what was found, as one HTML file that needs no network")
    add("--trace", metavar="FILE", help="write what was found as a trace that ui.perfetto.dev opens")
    add("--junit", metavar="FILE", help="write JUnit XML: a failing case for each anomaly")
    add("--annotations", action="store_true", help=ANNOTATIONS)


def execute(arguments: argparse.Namespace) -> int:
    """Read the parts, add them up, and tell."""
    outputs = output_files(arguments, "json", "html", "trace", "junit", inputs=arguments.files)
    issues = None if arguments.issues is None else checked_folder(arguments.issues, "--issues")
    parts = [_read(Path(name)) for name in arguments.files]
    missing = _refuse_strangers(parts, arguments.files)
    whole = merged(parts, missing)
    show_lines(_screen(whole, missing), sys.stdout)
    writers = {
        "json": lambda: json.dumps(whole, indent=2) + "\n",
        "html": lambda: picture(whole),
        "trace": lambda: trace(whole),
        "junit": lambda: junit_xml(_ci_results(whole)),
    }
    for option, output in outputs.items():
        try:
            text = writers[option]()
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(
                f"--{option}: what a part says of a run contradicts itself, and cannot be written: {error}", hint=HINT
            ) from error
        output.write(text)
    if issues is not None:
        _write_issues(whole, issues)
    if arguments.annotations:
        annotate(_ci_results(whole))
    return int(Verdict(whole["verdict"]).exit_code)


# reading --------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint=HINT) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: this is not a complete JSON document, perhaps cut short: {error}", hint=HINT
        ) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path}: this is not the result of a search", hint=HINT)
    shard = document.get("shard")
    program = shard.get("program", __version__) if isinstance(shard, dict) else __version__
    if program != __version__:
        raise UsageError(
            f"{path}: it was written by job-harness {clipped(program)}, and this is {__version__}",
            hint="Do all parts with one version, and merge them with it: in another version, a run of the same "
            "number is different.",
        )
    _refuse_damaged(document, path)
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _is_integer(value: Any) -> bool:
    """Whether it is one that can be added up and shown as a share: 1.0 is none, and neither is one of 400 digits."""
    return type(value) is int and value.bit_length() <= 256


def _refuse_damaged(document: dict[str, Any], path: Path) -> None:
    """Raise UsageError where a part is not what `explore` writes: it may come from anywhere, as a CI artifact does."""
    from jsonschema import Draft202012Validator, validators  # Slow to import, and only needed here.

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: _is_integer(value))
    judge = validators.extend(Draft202012Validator, type_checker=types)
    problem = next(judge({"$ref": "#/$defs/exploration", "$defs": schema()["$defs"]}).iter_errors(document), None)
    if problem is not None:
        raise UsageError(
            f"{path}: this is not the result of a search: at {problem.json_path}, {clipped(problem.message)}", hint=HINT
        )


def _refuse_strangers(parts: Sequence[dict[str, Any]], names: Sequence[str]) -> list[int]:
    """Return which parts are missing. Raises UsageError where two are the same, or of different campaigns."""
    first, seen = parts[0], dict[int, str]()
    for part, name in zip(parts, names, strict=True):
        for key in SAME:
            own, others = part.get(key), first.get(key)
            if own != others:
                raise UsageError(
                    f"{name}: its {key} is {clipped(own)}, that of {names[0]} is {clipped(others)}", hint=HINT
                )
        shard = part["shard"]
        if (shard["of"], shard["runs"]) != (first["shard"]["of"], first["shard"]["runs"]):
            raise UsageError(
                f"{name}: it is one of {shard['of']} parts of {shard['runs']} runs, and {names[0]} one of "
                f"{first['shard']['of']} of {first['shard']['runs']}",
                hint=HINT,
            )
        if shard["index"] in seen:
            raise UsageError(f"{name}: this is part {shard['index']}, and so is {seen[shard['index']]}", hint=HINT)
        seen[shard["index"]] = name
    return [index for index in range(1, first["shard"]["of"] + 1) if index not in seen]


# adding up ------------------------------------------------------------------------------------------------------------


def merged(parts: Sequence[dict[str, Any]], missing: Sequence[int] = ()) -> dict[str, Any]:
    """Return the whole campaign as `explore --json` writes one that was done in one part."""
    first = parts[0]
    findings = _findings(parts)
    unshown = sorted((hit for part in parts for hit in part["not_shown"]), key=lambda hit: (hit["run"], hit["anomaly"]))
    found = {name for each in findings for name in (each["anomaly"], *each["also"])}
    found |= {hit["anomaly"] for hit in unshown}
    given_up = {name for part in parts for name in part.get("given_up", ())}
    coverage = _coverage(parts, demanded=not found and not missing and not any(part["interrupted"] for part in parts))
    return {
        **first,
        **{key: round(sum(part[key] for part in parts), 3) for key in SUMMED},
        "verdict": str(_verdict(parts, findings or unshown, coverage["never_occurred"], missing)),
        "interrupted": any(part["interrupted"] for part in parts),
        "level": level_of(found, sum(part["runs"] for part in parts), given_up),
        "given_up": sorted(given_up),
        "guarantees_lost": [str(item) for item in lost(found)],
        "findings": findings,
        "not_shown": unshown,
        "coverage": coverage,
        "unsteady": next((part["unsteady"] for part in parts if part["unsteady"]), None),
        "trouble": next((part["trouble"] for part in parts if part["trouble"]), None),
        "shard": {**first["shard"], "index": 1, "of": 1, "first_seen": []},
    }


def _findings(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each anomaly the finding of the earliest run: the one that a campaign in one part would have."""
    earliest: dict[str, dict[str, Any]] = {}
    for finding in (each for part in parts for each in part["findings"]):
        known = earliest.get(finding["anomaly"])
        if known is None or finding["found_after_runs"] < known["found_after_runs"]:
            earliest[finding["anomaly"]] = finding
    return sorted(earliest.values(), key=lambda finding: gravity(finding["anomaly"]))


def _coverage(parts: Sequence[dict[str, Any]], *, demanded: bool) -> dict[str, Any]:
    if parts[0]["shard"]["of"] == 1:  # a whole campaign, whose file names no states to add up
        whole: dict[str, Any] = parts[0]["coverage"]
        return whole
    situations: Counter[str] = Counter(dict.fromkeys(parts[0]["coverage"]["situations"], 0))
    faults: Counter[tuple[str, str, str]] = Counter()
    seen: list[tuple[int, frozenset[int]]] = []
    for part in parts:
        situations.update(part["coverage"]["situations"])
        for cell in part["coverage"]["faults"]:
            faults[cell["status"], cell["position"], cell["fault"]] += cell["count"]
        seen += [(each["run"], frozenset(each["states"])) for each in part["shard"]["first_seen"]]
    seen.sort(key=lambda each: each[0])
    observed = sum(part["coverage"]["observed_runs"] for part in parts)
    states = Coverage(observed, states=[states for _, states in seen], numbers=[run for run, _ in seen])
    novelty = states.novelty()
    declared = [item for item in SITUATIONS if item.name in situations]
    stock = demanded and all(part["shard"]["demanded"] for part in parts)
    never = overlooked(
        [name for name, count in situations.items() if count], declared if stock else (), observed=observed
    )
    return {
        "observed_runs": observed,
        "situations": dict(situations),
        "never_occurred": [item.name for item in never],
        "faults": [
            {"status": status, "position": position, "fault": fault, "count": count}
            for (status, position, fault), count in sorted(faults.items())
        ],
        "states": novelty.states,
        "last_runs": novelty.last,
        "last_runs_with_a_new_state": novelty.new,
        "new_states": [{"runs": runs, "new": new} for runs, new in states.growth()],
    }


def _verdict(
    parts: Sequence[dict[str, Any]], found: Sequence[Any], never: Sequence[str], missing: Sequence[int]
) -> Verdict:
    """Fail where anything was found or overlooked; a part that is missing, or that came to nothing, is no pass."""
    failed = any(part["verdict"] == Verdict.FAIL and not part["coverage"]["never_occurred"] for part in parts)
    if found or never or failed:
        return Verdict.FAIL
    had_some = [
        part for part in parts if Shard(part["shard"]["index"], part["shard"]["of"]).after(0, part["shard"]["runs"])[1]
    ]
    open_ones = any(part["verdict"] == Verdict.INCONCLUSIVE or part["interrupted"] for part in had_some)
    return Verdict.INCONCLUSIVE if missing or open_ones else Verdict.PASS


# what is shown --------------------------------------------------------------------------------------------------------


def _screen(whole: dict[str, Any], missing: Sequence[int]) -> list[Line]:
    lines = []
    for finding in whole["findings"]:
        lines.append(Line(f"{finding['anomaly']}: {finding['sentence']}", "bold red"))
        lines += [Line(text) for text in wrap(f"{_label(finding)}: ", finding["guarantee_lost"], width=80, lines=2)]
        for shown in _word_finding(finding):
            lines += [Line(text) for text in wrap("Here: ", shown, width=80, lines=2)]
        lines.append(Line(f"Found in run {finding['found_after_runs']} of the campaign with seed {whole['seed']}."))
        if finding["replay"]:
            lines.append(Line(f"Replay: {finding['replay']}"))
        lines.append(Line(""))
    lines.append(Line(_headline(whole), "bold"))
    if missing:
        named = ", ".join(map(str, missing))
        lines += [
            Line(text)
            for text in wrap(
                "Missing: ", f"part{'s' * (len(missing) > 1)} {named}, so not all is known.", width=80, lines=3
            )
        ]
    lines += _open_lines(whole)
    coverage = whole["coverage"]
    up = sum(1 for count in coverage["situations"].values() if count)
    lines.append(Line(f"Situations: {up} of {len(coverage['situations'])} came up. States: {coverage['states']}."))
    return [*lines, *level_lines(whole["level"], whole["findings"], whole["runs"])]


def _headline(whole: dict[str, Any]) -> str:
    kinds = len(whole["findings"])
    told = f"{kinds or 'no'} {'kinds of anomaly' if kinds > 1 else 'anomaly'}"
    engine = Target.parse(whole["engine"]).sentence
    return f"{whole['verdict']}: {told} on {engine} in {whole['runs']} runs, {whole['steps']} steps."


def _word_finding(finding: dict[str, Any]) -> Iterator[str]:
    """Say of which job it is, when it showed, and what was wrong."""
    for each in finding["run"]["anomalies"]:
        if each["name"] == finding["anomaly"]:
            about = f"job {each['job']}, " if each["job"] else ""
            yield f"{about}{moment(each['at'])}: {each['message']}"
            return


def _open_lines(whole: dict[str, Any]) -> list[Line]:
    """List what else keeps the campaign from passing, beside the anomalies above."""
    told = [
        f"Seen in run {hit['run']}, not shown: {hit['anomaly']}; its part was cut short in the middle of a step."
        for hit in whole["not_shown"]
    ]
    told += [f"Never occurred, and so was not tested: {name}." for name in whole["coverage"]["never_occurred"]]
    if whole["cut"]:
        told.append(
            f"Cut: {whole['cut']} of {whole['runs']} runs were still at work after {whole['step_limit']} steps, and "
            "the rest of them was not judged. A higher --steps lets them continue."
        )
    if whole["unsteady"] is not None:
        told.append(f"Not deterministic, so no verdict can be relied on: {whole['unsteady']}.")
    if whole["trouble"] is not None:
        told.append(f"Ended early: {whole['trouble']}")
    if whole["interrupted"]:
        told.append("Interrupted: a part was stopped before its end, so not all is known.")
    return [Line(text) for each in told for text in wrap("", each, width=100, lines=4)]


def _label(finding: dict[str, Any]) -> str:
    return kind_of(finding["anomaly"]).label


def _story(finding: dict[str, Any]) -> list[str]:
    """Return what happened, and what it took."""
    rows = ([one_line(row[key]) for key in ("time", "actor", "text")] for row in finding["run"]["rows"])
    told = map(one_line, finding["run"]["told"])
    return [*(f"{time:<16} {actor:<16} {text}" for time, actor, text in rows), *told]


def _ci_results(whole: dict[str, Any]) -> list[CiResult]:
    """Return what `explore` itself would have told CI."""
    engine = whole["engine"]
    if not whole["findings"]:
        return [search_result(engine, Verdict(whole["verdict"]).exit_code, _headline(whole))]
    results = []
    for finding in whole["findings"]:
        screen = "\n".join([f"{finding['anomaly']}: {finding['sentence']}", "", *_story(finding), ""])
        place = place_of(_source(finding), finding["written"] or "")
        results.append(finding_result(engine, finding["anomaly"], screen, place))
    return results


def _write_issues(whole: dict[str, Any], folder: Path) -> None:
    """Write what an issue says of each anomaly: its title in the first line, then what broke, and how to see it."""
    make_folder(folder, "--issues")
    for finding in whole["findings"]:
        anomaly = finding["anomaly"]
        told = [
            one_line(f"job-harness: {anomaly} on {whole['engine']}"),  # The same one every night.
            "",
            one_line(f"{finding['sentence']} {_label(finding)}: {finding['guarantee_lost']}."),
            "",
            "```text",
            *(f" {line}" if line.startswith("```") else line for line in _story(finding)),
            "```",
            "",
            f"Seen in run {finding['found_after_runs']} of {whole['runs']}; seed {whole['seed']}. The same run again:",
            "",
            "```sh",
            f"{one_line(whole['command'])} \\",
            f"  --seed {whole['seed']} --runs {finding['found_after_runs']} --looking-for {shlex.quote(anomaly)}",
            "```",
            "",
        ]
        name = re.sub(r"[^\w-]", "_", anomaly)  # A part may name anything, also a way out of the folder.
        path = OutputFile.checked(str(folder / f"{name}.md"), "--issues")
        path.write(printable("\n".join(told)))


def _source(finding: dict[str, Any]) -> WrittenSource | None:
    lines = finding.get("source") or ()
    return WrittenSource(lines[0], tuple(lines[1:])) if lines else None
