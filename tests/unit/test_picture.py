"""The page of a run: whole, escaped, small, the same for the same run; a browser's part is in test_picture_browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_contract_run_json import RUN as RUN_WITH_EVERYTHING

from job_harness.core.invariants import Anomaly
from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.doors.cli import main
from job_harness.engines.memory import MemoryEngine
from job_harness.report.case import Case
from job_harness.report.json_report import report_data, run_data
from job_harness.report.picture import picture
from job_harness.search import counterfactual

STUCK = """\
format: 1
title: Stuck timeout below the job timeout
workers: [w1, w2]
jobs: {a: {takes: 9m}}
settings: {stuck_timeout: 5m}
expect: {a: {status: COMPLETED}}
tape: [{at: w2 claim, do: w1 first}]
"""
LOST = """\
format: 1
workers: [w1, w2]
jobs: {a: {takes: 30s}}
steps:
  - w1 loses the reply before completing a
expect: {a: {status: FAILED}}
"""
FRESH = 30
"""Runs that confirm a fix: enough to have one to draw."""
HOSTILE = (
    "</script><!--<img src=x onerror=alert(1)>--> ]]> ```` {{ 7*7 }} \u202egnp\u2028\x00\x1b[31m 'x' \"y\" & \ud800"
)


class Page(HTMLParser):
    """The elements of a page: which there are, with which ids, and what they link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))

    def values(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.elements if name in attributes]


def report(text: str = STUCK, path: str = "scenarios/x.yaml") -> dict[str, Any]:
    engine = MemoryEngine()
    run = play(read_scenario_text(text, path=path), engine=engine)
    run = counterfactual.with_fixes(run, engine=engine, runs=FRESH)
    return report_data([Case(run.scenario, "memory", run)])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return report()


def test_the_page_says_first_what_the_console_says(document: dict[str, Any]) -> None:
    page = picture(document)
    order = [
        "<title>FAIL: scenarios/x.yaml on memory</title>",
        "<h1><code>concurrent_execution</code> Two workers run the same job at once.</h1>",
        "one at a time: no job is run by two workers at once",
        "job a, t+6m1s: w2 starts it while w1 still runs it",
        "<b>Settings:</b> stuck_timeout 5m (default 30m)",
        "<b>Fixed by:</b>",
        "job-harness run scenarios/x.yaml --engine memory</code>",
        'class="chart',
    ]
    assert [page.find(text) for text in order] == sorted(page.find(text) for text in order)
    assert all(text in page for text in order)


def test_every_step_has_an_anchor_and_every_link_leads_somewhere(document: dict[str, Any]) -> None:
    page = Page(picture(document))
    for row in document["cases"][0]["run"]["story"]:
        assert f"step-{row['event']}" in page.ids
    assert len(page.ids) == len(set(page.ids))
    links = [link.removeprefix("#") for link in page.values("href")]
    named = [*links, *page.values("aria-controls"), *page.values("for"), *page.values("data-copy")]
    assert [name for name in named if name not in page.ids] == []


def test_the_page_needs_no_other_file_and_is_small(document: dict[str, Any]) -> None:
    text = picture(document)
    assert len(text.encode()) < 150_000
    assert Page(text).values("src") == []
    assert re.findall(r"https?://|@import|url\(", text) == []


def test_the_same_run_gives_the_same_bytes(document: dict[str, Any]) -> None:
    assert picture(document) == picture(json.loads(json.dumps(report())))


def test_the_lease_stands_beside_two_runs_that_overlap_and_the_passing_run_parts_from_them(
    document: dict[str, Any],
) -> None:
    text = picture(document)
    assert re.search(r'class="overlap first".*title="w1 runs attempt 1 .*At the same time w2 runs attempt 2', text)
    assert text.count('class="bar lease') == len(document["cases"][0]["run"]["leases"])
    assert text.index("From here on, a run with stuck_timeout 13m goes another way") < text.index(
        "takes back → PENDING"
    )
    assert 'class="row ghost' in text
    assert '<span class="gap-label">+5m</span>' in text
    assert "w1 acts before w2&#39;s `claim`" in text, "an order has a mark where it was decided"


def test_what_has_no_known_end_is_drawn_without_one() -> None:
    text = picture(report(LOST))
    assert 'class="unheard"' in text
    assert "LOSES THE REPLY" in text.upper()
    case = {**report()["cases"][0], "run": RUN_WITH_EVERYTHING}
    text = picture({"verdict": "fail", "cases": [case]})
    assert 'class="bar lease open' in text
    assert "The lease of w1 runs out: attempt 1, token 1" in text
    assert "app.py, charge, gate 2" in text


def _poisoned(value: Any, key: str = "") -> Any:
    """Put hostile text into everything that a run can bring: only what the harness itself names stays."""
    kept = {"kind", "verdict", "format", "at", "verb", "ended_by", "exit_code"}
    if isinstance(value, dict):
        return {name: item if name in kept and name != "at" else _poisoned(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_poisoned(item, key) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def test_hostile_text_in_every_field_is_shown_and_is_nothing_else(document: dict[str, Any]) -> None:
    calm, hostile = Page(picture(document)), Page(picture(_poisoned(document)))
    assert [tag for tag, _ in hostile.elements if tag in ("img", "script")] == [
        tag for tag, _ in calm.elements if tag in ("img", "script")
    ]
    allowed = {name for _, attributes in calm.elements for name in attributes}
    assert {name for _, attributes in hostile.elements for name in attributes} <= allowed
    text = picture(_poisoned(document))
    text.encode("utf-8")
    assert "{{ 7*7 }}" in text, "a template in the data is text"
    assert not set(text) & set("\u202e\u2028\x00\x1b")
    fences = re.findall(r"^(`{3,})", text, re.MULTILINE)
    assert min(map(len, fences)) > 4, "no text can end the code block of the copy for an issue tracker"


def test_a_fault_is_red_only_where_the_shrinker_has_shown_that_it_is_needed() -> None:
    crash = STUCK.replace("{at: w2 claim, do: w1 first}", "{at: w1 running a, do: crash}")
    run = report(crash)["cases"][0]["run"]
    about = {"anomaly": "", "replay": "", "written": "", "replays": {}, "run": run}
    for minimal, told in ((True, "fault: without it this does not happen"), (False, "fault")):
        text = picture({"engine": "memory", "verdict": "fail", "findings": [{**about, "minimal": minimal}]})
        assert f">{told}</p>" in text
        assert ("fault needed" in text) == minimal
    (struck,) = (event for event in run["events"] if event["kind"] == "fault")
    struck |= {"name": "raised", "data": {"error": "Error: boom"}}  # what an actor does by itself
    run |= {"tape": [], "deviations": []}
    text = picture({"engine": "memory", "verdict": "fail", "findings": [{**about, "minimal": False}]})
    assert ">fault</p>" not in text


def _commands(tmp_path: Path) -> Iterator[tuple[list[str], str]]:
    scenario = tmp_path / "x.yaml"
    scenario.write_text(STUCK)
    yield ["run", str(scenario), "--no-controls"], "concurrent_execution"
    found = ["--set", "stuck_timeout=5m", "--looking-for", "concurrent_execution", "--save", str(tmp_path / "s.yaml")]
    yield ["explore", "memory", *found], "What the search covered"


@pytest.mark.usefixtures("few_fresh_runs")
def test_run_and_explore_write_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (command, told) in enumerate(_commands(tmp_path)):
        file = tmp_path / f"{number}.html"
        assert main([*command, "--html", str(file)]) == 1
        assert told in file.read_text(encoding="utf-8")
    capsys.readouterr()


def test_a_search_without_a_finding_shows_what_it_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.html"
    main(["explore", "memory", "--runs", "20", "--html", str(file), "--quiet"])
    capsys.readouterr()
    text = file.read_text(encoding="utf-8")
    assert "the search found no anomaly" in text
    assert 'class="heat"' in text
    assert '<span class="verdict pass">pass</span>' in text


def test_a_complete_search_shows_its_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.html"
    assert main(["exhaust", "memory", "--workers", "1", "--jobs", "1", "--html", str(file), "--quiet"]) == 0
    capsys.readouterr()
    assert "New states at each depth" in file.read_text(encoding="utf-8")


def test_of_a_run_too_long_for_a_page_the_end_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_harness.report.json_report.MOST_EVENTS", 10)
    document = report()
    run = document["cases"][0]["run"]
    page = picture(document)
    assert run["first_event"] > 0
    assert f"{run['left_out']} more events are not drawn" in page
    assert all(f"step-{row['event']}" in Page(page).ids for row in run["story"])
    run["story"] = []
    assert "Two workers run the same job at once." in picture(document), "nothing was worth a row"


def test_a_rule_of_the_users_own_that_breaks_is_drawn() -> None:
    run = play(read_scenario_text(LOST, path="x.yaml"), engine=MemoryEngine())
    own = Anomaly("paid_twice", "own", at=0, event=3, job="a", message="the account was charged twice")
    case = {**report(LOST)["cases"][0], "run": run_data(replace(run, anomalies=(own,)))}
    text = picture({"verdict": "fail", "cases": [case]})
    assert "<code>paid_twice</code> A check of your own failed." in text
    assert 'href="#breach"' in text
    assert 'id="breach"' in text, "an event without a row of its own is shown at the row before it"


# the trace ------------------------------------------------------------------------------------------------------------


def test_a_trace_has_a_track_for_each_actor_and_the_leases_of_each_job(tmp_path: Path) -> None:
    scenario = Path(__file__).parents[2] / "scenarios" / "zombies" / "late_complete.yaml"
    file = tmp_path / "trace.json"
    main(["run", str(scenario), "--engine", "memory+stale-complete", "--no-controls", "--trace", str(file)])
    events = json.loads(file.read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"w1", "w2", "job a"} <= tracks
    slices = [event for event in events if event["ph"] == "X"]
    assert {"a, attempt 1: success", "w1, token 1", "w2, token 2"} <= {event["name"] for event in slices}
    assert all(event["dur"] >= 0 for event in slices)
    assert {event["args"]["job"] for event in events if event["name"] == "stale_complete"} == {"a"}


# what a step came from, and what followed -----------------------------------------------------------------------------


LATE = """\
format: 1
workers: [w1, w2]
jobs: {a: {takes: 30s}}
steps:
  - w1 delays the request by 15m before completing a
expect: {a: {status: COMPLETED}}
"""


def test_a_step_says_its_statements_its_line_of_the_scenario_and_its_processor() -> None:
    case = report(LATE)["cases"][0]
    run = case["run"]
    started = next(index for index, event in enumerate(run["events"]) if event.get("name") == "started")
    run |= {
        "statements": [{"event": started, "actor": "w1", "name": "update jobs", "sql": 0}],
        "sql": ["UPDATE jobs\nSET state = '<img src=x>'"],
        "processors": {"tool": "billing.py:charge"},
    }
    text = picture({"verdict": "fail", "cases": [case]})
    row = text[text.index(f'id="step-{started}"') :].partition("</li>")[0]
    assert 'w1 sent <a href="#sql-0">update jobs</a>' in row
    assert 'data-sql="sql-0"' in row
    assert '<li id="sql-0"><pre class="sql">UPDATE jobs\nSET state = &#39;&lt;img src=x&gt;&#39;</pre></li>' in text
    assert "<dt>scenario</dt><dd>scenarios/x.yaml:5 w1 delays the request by 15m before completing a</dd>" in row
    assert "<dt>processor</dt><dd>billing.py:charge</dd>" in row
    assert text.count("UPDATE jobs") == 1, "a statement stands once, however often it was sent"
    plain = picture({"verdict": "fail", "cases": report(LATE)["cases"]})
    assert "The SQL of a step is not seen on this engine." in plain


def test_a_request_that_arrived_late_has_one_name_on_the_screen_and_in_the_picture() -> None:
    case = report(LATE)["cases"][0]
    lanes = {lane["name"]: lane["title"] for lane in case["run"]["lanes"]}
    late = next(name for name in lanes if name.startswith("message "))
    assert lanes[late] == "w1's complete a, late"
    text = picture({"verdict": "fail", "cases": [case]})
    assert late not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert "<b>w1&#39;s complete a, late</b>" in text


def test_what_followed_and_why_is_on_the_page_and_in_the_text(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = picture(document)
    copied = text.partition("<textarea")[2].partition("</textarea>")[0]
    assert "---- after the anomaly ----" in copied
    assert "passing run" not in copied, "what is pasted elsewhere is what happened"
    assert "Also taken_back_early: job a, t+5m: " in copied
    assert '<span class="of">passing run:</span>' in text
    assert 'class="chart"' in text, "a few rows that followed are shown at once"
    monkeypatch.setattr("job_harness.report.picture.SHOWN_AFTER", 2)
    text = picture(document)
    assert 'class="chart cut"' in text
    assert re.search(r"Show the \d+ steps that followed the anomaly", text), "more of them have a button"
    assert re.search(r"and \d+ more steps", text), "and are counted in the text"
