"""A campaign in parts: they share nothing, and together they are the campaign in one part."""

from __future__ import annotations

import copy
import errno
import functools
import json
import operator
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from job_harness.doors.cli import main
from job_harness.errors import UsageError
from job_harness.search.sampling import STRETCH, Shard

RUNS = 300


def explored(into: Path, *options: str, runs: int = RUNS) -> dict[str, Any]:
    command = ["explore", "memory+stale-complete", "--runs", str(runs), "--keep-going", "--quiet"]
    main([*command, "--json", str(into), "--save", str(into.with_suffix(".yaml")), *options])
    told: dict[str, Any] = json.loads(into.read_text())
    return told


@pytest.mark.parametrize(("of", "runs"), [(1, 10), (3, 1000), (8, 5000), (5, 64), (7, 65), (4, 1)])
def test_each_run_belongs_to_one_part(of: int, runs: int) -> None:
    numbers = [
        first + step
        for index in range(1, of + 1)
        for first, count in Shard(index, of).stretches(runs)
        for step in range(count)
    ]
    assert sorted(numbers) == list(range(runs))
    assert all(count <= STRETCH for _, count in Shard(1, of).stretches(runs))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/99999"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected K/N"):
        Shard.read(text)


@pytest.mark.long
def test_the_parts_put_together_are_the_campaign_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = explored(tmp_path / "whole.json")
    parts = [str(tmp_path / f"{index}.json") for index in (2, 3, 1)]
    for name in parts:
        processes = ("--processes", "2") if name.endswith("3.json") else ()
        explored(Path(name), "--shard", f"{Path(name).stem}/3", *processes)
    assert main(["merge", *parts, "--json", str(tmp_path / "merged.json")]) == 1
    merged = json.loads((tmp_path / "merged.json").read_text())
    for told in (whole, merged):
        del told["seconds"]
        for finding in told["findings"]:
            for key in ("written", "replay"):
                del finding[key]
    assert merged == whole
    assert whole["findings"], "an empty campaign shows nothing"
    assert "stale_complete: A worker that no longer held its claim could still complete." in capsys.readouterr().out


def test_a_part_that_is_missing_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explore", "memory", "--runs", "128", "--quiet", "--shard", "1/2", "--json", str(tmp_path / "1.json")]
    assert main(command) == 0
    assert main(["merge", str(tmp_path / "1.json")]) == 3
    assert "Missing: part 2, so not all is known." in capsys.readouterr().out


def test_a_whole_campaign_is_merged_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = explored(tmp_path / "whole.json", runs=200)
    assert main(["merge", str(tmp_path / "whole.json"), "--json", str(tmp_path / "merged.json")]) == 1
    assert json.loads((tmp_path / "merged.json").read_text())["coverage"] == whole["coverage"]
    assert f"States: {whole['coverage']['states']}." in capsys.readouterr().out


def test_a_part_without_runs_says_why_and_promises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explore", "memory", "--runs", "60", "--shard", "2/2", "--json", str(tmp_path / "2.json")]
    assert main(command) == 3
    assert main(["merge", str(tmp_path / "2.json")]) == 3
    told = capsys.readouterr().out
    assert "Part 2 of 2 has no runs: 64 at a time go to one part." in told
    assert told.count("Guarantees: not known, for no run was judged.") == 2


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return what the two parts of one campaign wrote."""
    files = [tmp_path_factory.mktemp("halves") / f"{index}.json" for index in (1, 2)]
    for index, file in enumerate(files, 1):
        main(["explore", "memory", "--runs", "128", "--quiet", "--shard", f"{index}/2", "--json", str(file)])
    return [file.read_text() for file in files]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[: len(text) // 2], "perhaps cut short"),
        (lambda text: "[" * 99_999, "this is not a complete JSON document"),
        (lambda text: "[]", "this is not the result of a search"),
        (lambda text: text.replace('"seconds": ', '"seconds": NaN, "seconds": '), "JSON has no NaN"),
        (lambda text: json.dumps({**json.loads(text), "shard": {}}), "this is not the result of a search"),
        (lambda text: text.replace('"of": 2', '"of": 1000000000000'), "at $.shard.of, '1000000000000 is greater"),
        (lambda text: json.dumps({**json.loads(text), "shard": None}), "this is not the result of a search"),
        (lambda text: text.replace('"program": "', '"program": "9.'), "it was written by job-harness"),
        (lambda text: text.replace('"seed": 0', '"seed": 1', 1), "its seed is 1"),
        (lambda text: text.replace('"looking_for": []', '"looking_for": ["job_stuck"]'), "its looking_for is ['job_st"),
        (lambda text: text.replace('"without": []', '"without": ["job_stuck"]'), "its without is ['job_stuck']"),
        (lambda text: text.replace('"keep_going": false', '"keep_going": true'), "its keep_going is True"),
        (lambda text: text.replace('"step_limit": 20000', '"step_limit": 9'), "its step_limit is 9"),
        (lambda text: text.replace('"runs": 128,\n    "program"', '"runs": 99,\n    "program"'), "of 99 runs"),
        (lambda text: text.replace('"index": 2', '"index": 1'), "this is part 1, and so is"),
    ],
)
def test_a_part_of_another_campaign_is_refused_by_name(
    change: Any, told: str, halves: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    files[0].write_text(halves[0])
    files[1].write_text(change(halves[1]))
    assert main(["merge", *map(str, files)]) == 2
    assert told in capsys.readouterr().err


HOSTILE: list[Any] = [None, [], {}, "", "\x1b[31m\u202e/../../x", -1, 10**12, 1.0, True, 10**400, ["a"], {"a": 1}]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the way to each part of a document; of a list, to its first item alone."""
    yield at
    for key in value if isinstance(value, dict) else range(min(len(value), 1)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a search wrote that found something."""
    return explored(tmp_path_factory.mktemp("found") / "1.json", runs=200)


@pytest.mark.long
def test_a_damaged_part_is_told_from_a_bug_and_steers_no_terminal(
    found: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "1.json"
    codes = set()
    for number, (*way, key) in enumerate([way for way in places(found) if way][::5]):
        document = copy.deepcopy(found)
        at = functools.reduce(operator.getitem, way, document)
        at[key] = HOSTILE[number % len(HOSTILE)]
        part.write_text(json.dumps(document))
        drawn = () if number % 6 else ("--html", "1.html", "--trace", "1.trace")
        codes.add(main(["merge", "1.json", "--issues", "issues", "--junit", "1.xml", *drawn]))
        told = "".join(capsys.readouterr())
        assert "bug in job-harness" not in told, (way, key, at[key], told)
        assert told.replace("\n", "").isprintable()
    assert codes == {1, 2}
    ElementTree.parse(tmp_path / "1.xml")


@pytest.mark.parametrize("name", ["../outside", "/{}/outside", "a/../../outside", "\x1b[31m\u202e"])
def test_no_name_in_a_part_leads_out_of_the_folder_or_reaches_a_file_raw(
    name: str, found: dict[str, Any], tmp_path: Path
) -> None:
    name = name.format(tmp_path)
    [finding] = found["findings"]
    hostile = {**finding, "anomaly": name, "run": {**finding["run"], "told": ["```", "\x1b]0;owned\x07"]}}
    part, into = tmp_path / "1.json", tmp_path / "issues"
    part.write_text(json.dumps({**found, "findings": [hostile]}))
    assert main(["merge", str(part), "--issues", str(into), "--junit", str(tmp_path / "1.xml")]) == 1
    (written,) = into.iterdir()
    assert {path.name for path in tmp_path.iterdir()} == {"1.json", "1.xml", "issues"}
    told = written.read_text()
    assert told.replace("\n", "").isprintable()
    assert told.splitlines().count("```") == 2, "what a part says ends no block"
    assert ElementTree.parse(tmp_path / "1.xml").find(".//failure") is not None


def test_a_part_that_contradicts_itself_cannot_be_drawn(
    found: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [finding] = found["findings"]
    hostile = {**finding, "run": {**finding["run"], "deviations": []}}
    (tmp_path / "1.json").write_text(json.dumps({**found, "findings": [hostile]}))
    assert main(["merge", str(tmp_path / "1.json"), "--html", str(tmp_path / "1.html")]) == 2
    assert "--html: what a part says of a run contradicts itself" in capsys.readouterr().err


def test_what_is_no_pass_without_an_anomaly_says_why(
    halves: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = json.loads(halves[0]) | {"interrupted": True, "verdict": "fail", "cut": 2, "trouble": "a step hangs"}
    part |= {"unsteady": "run 3 differs", "not_shown": [{"anomaly": "job_stuck", "run": 7}]}
    part["coverage"]["never_occurred"] = ["a retry"]
    part["shard"]["of"] = 1
    (tmp_path / "1.json").write_text(json.dumps(part))
    assert main(["merge", str(tmp_path / "1.json"), "--annotations"]) == 1
    told = capsys.readouterr().out
    for words in (
        "::error title=memory%3A search::fail: no anomaly on memory in 64 runs",
        "Seen in run 7, not shown: job_stuck",
        "Never occurred, and so was not tested: a retry.",
        "Cut: 2 of ",
        "Not deterministic, so no verdict can be relied on: run 3 differs.",
        "Ended early: a step hangs\n",
        "Interrupted: a part was stopped before its end",
    ):
        assert words in told


@pytest.mark.long
def test_an_issue_has_the_command_that_does_the_same_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--strategy", "uniform", "--steps", "9000", "--set", "lease=2m", "--leave-out", "schedules"]
    command = ["explore", "memory+stale-complete", *options, "--without", "job_stuck"]
    looked = ["--seed", "5", "--runs", "300", "--looking-for", "stale_complete", "--quiet"]
    main([*command, *looked, "--json", str(tmp_path / "1.json"), "--save", str(tmp_path / "1.yaml")])
    [finding] = json.loads((tmp_path / "1.json").read_text())["findings"]
    assert finding["source"] == []
    whole = json.loads((tmp_path / "1.json").read_text())
    whole["findings"][0]["source"] = ["queue.yaml:13: claim", "UPDATE jobs"]
    (tmp_path / "1.json").write_text(json.dumps(whole))
    junit = tmp_path / "merged.xml"
    main(["merge", str(tmp_path / "1.json"), "--issues", str(tmp_path), "--annotations", "--junit", str(junit)])
    (case,) = ElementTree.parse(junit).getroot().iter("testcase")
    assert (case.get("name"), case.get("file"), case.get("line")) == ("stale_complete", "queue.yaml", "13")
    assert "completes" in str(case[0].text)
    shown = capsys.readouterr().out
    assert "changes nothing\nHere: job " in shown, "it says what happened"
    assert (
        "::error file=queue.yaml,line=13,title=memory+stale-complete%3A stale_complete (found by a search)::" in shown
    )
    told = (tmp_path / "stale_complete.md").read_text().partition("```sh\n")[2].partition("\n```")[0]
    again = ["--seed", "5", "--runs", str(finding["found_after_runs"]), "--looking-for", "stale_complete"]
    assert shlex.split(told.replace("\\\n", "")) == ["job-harness", *command, *again]

    def refused(self: Path, **how: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(["merge", str(tmp_path / "1.json"), "--issues", str(tmp_path / "new")]) == 4
    assert f"--issues {tmp_path / 'new'}: cannot be made: Permission denied" in capsys.readouterr().err
