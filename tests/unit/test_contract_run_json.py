"""The contract of runs as JSON: real output keeps to the schema, and the page lists what the schema has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from job_harness.core.history.event import Effect, Fault, History, Observed
from job_harness.core.model.job import JobView
from job_harness.core.model.lifecycle import QueueState, Status
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli import main
from job_harness.report.json_report import MOST_EVENTS, run_data, schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contracts/run_json.md").read_text(encoding="utf-8")
SCHEMA = schema()
EVENTS = {name.removesuffix("_event"): part for name, part in SCHEMA["$defs"].items() if name.endswith("_event")}
PLAYED = (
    "crashes/while_running",
    "hostile/input_with_nan",
    "expiry/heartbeats_keep_a_lease",
    "tables/purge_deletes_both_rows",
)
OBJECTS = {name: part for name, part in SCHEMA["$defs"].items() if "properties" in part and not name.endswith("_event")}


FIRST = {
    "report": "format version verdict exit_code planned seed changes cases",
    "case": "scenario line title engine control verdict exit_code message hint replay run",
    "run": "engine steps ended_at anomalies failures uncovered tape stopped_by not_stopped_by settings rows",
    "anomaly": "name invariant sentence guarantee job at event message",
    "trial": "name kind gone shows stays unused runs seen seen_without",
    "exploration": "engine verdict interrupted strategy seed runs steps cut seconds settings level guarantees_lost "
    "findings coverage unsteady trouble",
    "finding": "anomaly sentence guarantee_lost also seed found_after_runs shrink_runs minimal drawn written "
    "not_written jobs workers tape replays replay run",
}
"""The keys that were there first: no later version 1 is without them."""


def problems(data: Any, name: str) -> list[str]:
    validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})
    return [f"{list(error.absolute_path)}: {error.message:.200}" for error in validator.iter_errors(data)]


def sections() -> dict[str, set[str]]:
    """List, by heading, the keys in the first column of its table."""
    found: dict[str, set[str]] = {}
    for heading, text in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
        found[heading] = set(re.findall(r"`(\w+)`", " ".join(cells)))
    return found


def test_the_page_has_a_section_for_each_object_and_lists_its_keys() -> None:
    assert sections() == {name: set(part["properties"]) for name, part in OBJECTS.items()}


def test_the_page_lists_the_kinds_of_events_and_their_keys() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", PAGE.partition("## Events")[2], re.MULTILINE)
    told = {kind: {"kind", "at", *re.findall(r"`(\w+)`", keys)} for kind, keys in rows}
    assert told == {kind: set(part["properties"]) for kind, part in EVENTS.items()}


def test_every_object_of_the_schema_is_closed_so_that_a_key_which_nobody_described_is_seen() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for name, part in {**OBJECTS, **EVENTS}.items():
        assert part["additionalProperties"] is False, name


def test_no_key_that_was_there_first_is_gone() -> None:
    for name, keys in FIRST.items():
        assert set(keys.split()) <= set(OBJECTS[name]["required"]), name


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "report"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("report") / "report.json"
    here = pytest.MonkeyPatch()
    here.chdir(ROOT)
    names = (
        "crashes/while_running",
        "hostile/input_with_nan",
        "expiry/heartbeats_keep_a_lease",
        "tables/purge_deletes_both_rows",
    )
    main(["run", "--quiet", *(f"scenarios/{name}.yaml" for name in names), "--json", str(file)])
    here.undo()
    return json.loads(file.read_text())


@pytest.mark.slow
def test_what_run_writes_keeps_to_the_schema_passing_and_failing(report: Any) -> None:
    assert problems(report, "report") == []
    assert {case["run"]["verdict"] for case in report["cases"]} == {"pass", "fail"}
    kinds = {event["kind"] for case in report["cases"] for event in case["run"]["events"]}
    assert kinds == set(EVENTS)


def test_a_key_that_the_schema_does_not_know_and_one_that_is_missing_are_problems(report: Any) -> None:
    run = report["cases"][0]["run"]
    assert "'mood' was unexpected" in problems({**run, "mood": 1}, "run")[0]
    assert "'lanes' is a required property" in problems({k: v for k, v in run.items() if k != "lanes"}, "run")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "verdict"), [("memory+attempts-not-counted", "fail"), ("memory", "pass")])
def test_what_explore_writes_keeps_to_the_schema(
    engine: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["explore", engine, "--runs", "64", "--processes", "1", "--steps", "20000", "--json", "out.json"])
    data = json.loads((tmp_path / "out.json").read_text())
    assert problems(data, "exploration") == []
    assert data["verdict"] == verdict
    for finding in data["findings"]:
        assert main(["run", finding["written"], "--replay", finding["run"]["token"]]) == 1


# how a run is read ----------------------------------------------------------------------------------------------------

ROW = JobView(
    "a", "tool", Status.PENDING, QueueState.CREATED, 0, 0, 3, 0, None, None, None, None, 0, 0, None, None, None, None
)
CLAIMED = ROW._replace(status=Status.PROCESSING, attempts=1, token=1, worker="w1", lease_until=60)
HISTORY = History(
    [
        Observed(0, "client-a", "enqueue", "a", None, ROW, 0),
        Observed(1, "w1", "claim", "a", ROW, CLAIMED, 1),
        Effect(2, "w1", "a", 1, 1, "started", None),
        Effect(3, "w1", "a", 1, 1, "charged", {"score": float("nan")}, "order-7"),
        Observed(9, "w1", "heartbeat", "a", CLAIMED, CLAIMED._replace(lease_until=99), 9),
        Fault(10, "w1", "crash", {"at": "app.py:charge:2"}),
        Observed(100, "queue", "expire", "a", CLAIMED, ROW._replace(attempts=1, token=1), 100),
        Observed(101, "w2", "claim", "a", ROW, CLAIMED._replace(token=2, worker="w2", lease_until=200), 101),
    ]
)
TAPE = (Deviation("w1 app.py:charge:2", 1, "crash"), Deviation("time", 2, "late"))
RUN = run_data(Run(Scenario(workers=("w1", "w3")), "memory", HISTORY, TAPE))


def test_a_claim_is_a_lease_with_its_extension_and_what_ended_it() -> None:
    first, second = RUN["leases"]
    assert first == {
        "job": "a", "token": 1, "attempt": 1, "worker": "w1", "from": 1, "until": 99,
        "extended": [{"at": 9, "until": 99}], "to": 100, "ended_by": "expire",
    }  # fmt: skip
    assert (second["worker"], second["to"], second["ended_by"]) == ("w2", None, None)


def test_a_crash_ends_an_execution_and_a_declared_effect_is_told_as_json() -> None:
    assert [(item["from"], item["to"], item["end"]) for item in RUN["executions"]] == [(2, 10, "crash")]
    assert [(item["kind"], item["identity"], item["data"]) for item in RUN["effects"]] == [
        ("charged", "order-7", {"score": "nan"})
    ]


def test_a_gate_has_its_place_in_the_users_code_and_its_deviations() -> None:
    gate = next(item for item in RUN["gates"] if item["name"] == "app.py:charge:2")
    assert gate["place"] == {"file": "app.py", "function": "charge", "nth": 2}
    assert (gate["events"], gate["deviations"]) == ([5], [0])
    assert [(item["actor"], item["gate"]) for item in RUN["deviations"]] == [("w1", "app.py:charge:2"), (None, "time")]


def test_lanes_are_the_actors_by_kind_also_a_worker_that_did_nothing() -> None:
    kinds = [(lane["name"], lane["kind"], lane["first"]) for lane in RUN["lanes"]]
    assert kinds == [
        ("w1", "worker", 1),
        ("w3", "worker", None),
        ("client-a", "client", 0),
        ("queue", "upkeep", 6),
        ("w2", "process", 7),
    ]
    assert problems(RUN, "run") == []


def test_of_a_long_run_the_last_events_are_told_and_the_rest_counted() -> None:
    history = History([Fault(at, "*", "late", {"for": 1}) for at in range(MOST_EVENTS + 5)])
    told = run_data(Run(Scenario(), "memory", history, ()))
    assert (told["first_event"], told["left_out"], len(told["events"])) == (5, 5, MOST_EVENTS)
    assert told["events"][0]["at"] == 5
