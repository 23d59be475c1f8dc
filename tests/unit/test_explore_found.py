"""A finding outlives whatever goes wrong after it: its shrinking, its file, its replay, its explanation."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.interruption import Interrupted, Terminated
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities, Claim, EngineInfo, WrittenSource
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.doors.cli import main
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import ExitCode
from job_harness.report.blame import with_source
from job_harness.search.lockstep import Difference, Divergence
from job_harness.search.sampling import Sampler
from job_harness.search.shrink import JointShrinker, Shrinker
from job_harness.search.targets import open_engine
from job_harness.search.watchdog import SearchTime, StepHung

pytestmark = pytest.mark.usefixtures("few_fresh_runs")

SEARCH = ["--set", "stuck_timeout=5m", "--looking-for", "taken_back_early", "--runs", "50"]
ENGINES = """
from job_harness.core.port import EngineInfo
from job_harness.engines.memory import MemoryEngine


class Own:
    def __init__(self, after=None):
        self.engine, self.after, self.opened = MemoryEngine(), after, 0
        self.info = EngineInfo("one of its own", self.engine.info.capabilities)

    def open(self, settings, clocks, jitter):
        self.opened += 1
        queue = self.engine.open(settings, clocks, jitter)
        if self.after and self.opened > 8:
            self.after(queue)
        return queue

    def close(self):
        pass


def breaks(queue):
    raise RuntimeError("opening broke")


def hangs(queue):
    def enqueue(request):
        while True:
            pass

    queue.enqueue = enqueue


def own():
    return Own()


def breaking():
    return Own(breaks)


def hanging():
    return Own(hangs)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(ENGINES, encoding="utf-8")
    return tmp_path


def test_an_engine_of_its_own_name_is_told_and_replayed_under_the_name_that_opens_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "own.py:own", *SEARCH, "--json", "found.json"]) == 1

    shown = capsys.readouterr().out
    (finding,) = json.loads((folder / "found.json").read_text())["findings"]
    assert "Replayed on own.py:own: fail, shows taken_back_early again." in shown
    assert main(["run", finding["written"]]) == 1


@pytest.mark.parametrize(
    ("options", "hinted"), [((), True), (("--quiet",), False), (("--keep-going",), False), (SEARCH[2:4], False)]
)
def test_only_where_another_cause_may_be_left_a_line_says_how_to_look_for_it(
    folder: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str], hinted: bool
) -> None:
    assert main(["explore", "own.py:own", *SEARCH[:2], *SEARCH[4:], *options]) == 1
    hint = "The first finding ended the search. There may be other causes: --keep-going searches on."
    assert (hint in capsys.readouterr().out.splitlines()) is hinted


@pytest.mark.slow
@pytest.mark.parametrize(("name", "told"), [("breaking", "opening broke"), ("hanging", "did not end after")])
def test_a_target_that_breaks_or_hangs_while_a_run_is_made_smaller_costs_no_finding(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    assert main(["explore", f"own.py:{name}", *SEARCH, "--patience", "0.4"]) == 1

    shown = capsys.readouterr().out
    assert shown.startswith("FAIL  taken_back_early")
    assert "Shrinking was cut short" in shown
    assert f"Not replayed on own.py:{name}: " in shown
    assert told in shown.split("Ended early: ")[1]


@pytest.mark.parametrize("processes", [False, True])
def test_a_step_that_does_not_end_is_a_verbs_fault_and_no_verb_is_in_a_step_of_processes(processes: bool) -> None:
    engine = MemoryEngine()
    engine.info = replace(engine.info, undisturbed=(lambda run: None) if processes else None)
    trouble = Sampler(engine, Settings()).trouble_of(StepHung("it did not end"), "run 1: ")
    assert trouble.message == "run 1: it did not end"
    assert trouble.code is (ExitCode.INCONCLUSIVE if processes else ExitCode.FAIL)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_whatever_ends_a_search_while_a_run_is_made_smaller_keeps_it(
    monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupted(self: Shrinker) -> None:
        raise stop

    monkeypatch.setattr(Shrinker, "shrink", interrupted)
    sampler = Sampler(MemoryEngine(), Settings(stuck_timeout=5 * MINUTE))
    campaign = sampler.explore(seed=0, runs=500)

    assert isinstance(campaign.interruption, stop)
    assert campaign.finding is not None
    assert not campaign.finding.minimal


def test_a_finding_gets_no_smaller_once_the_time_of_the_search_is_over() -> None:
    asked: list[bool] = []
    told: list[tuple[str, int]] = []

    class OverAtTheThirdRun(SearchTime):
        @property
        def hurries(self) -> bool:
            asked.append(len(asked) == 2)
            return asked[-1]

    sampler = Sampler(
        MemoryEngine(),
        Settings(stuck_timeout=5 * MINUTE),
        time=OverAtTheThirdRun(),
        shrinking=lambda *run: told.append(run),
    )
    finding = sampler.explore(seed=0, runs=500).finding
    assert finding is not None
    assert told == [(finding.anomaly, number) for number in range(1, finding.shrink_runs + 1)]
    assert finding.anomaly in finding.run.found
    assert (finding.shrink_runs < len(asked) == 3, finding.minimal) == (True, False)


def test_a_finding_is_not_called_minimal_once_its_steps_are_used_up_or_where_the_small_run_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = Sampler(MemoryEngine(), Settings(stuck_timeout=5 * MINUTE))
    with monkeypatch.context() as patch:
        patch.setattr(Shrinker, "most_steps", 100)
        finding = sampler.explore(seed=0, runs=500).finding
    assert finding is not None
    assert finding.anomaly in finding.run.found
    assert (finding.shrink_runs > 0, finding.minimal) == (True, False)

    def shrunk_to_nothing(self: Shrinker) -> None:
        self.runs, self._hastened, self.scenario = 9, True, replace(self.scenario, tape=(), jobs=())

    monkeypatch.setattr(JointShrinker, "shrink", shrunk_to_nothing)
    finding = sampler.explore(seed=0, runs=500).finding
    assert finding is not None
    assert finding.anomaly in finding.run.found
    assert (finding.scenario.jobs, finding.shrink_runs, finding.minimal) == (finding.run.scenario.jobs, 0, False)


def test_an_interruption_between_seeing_an_anomaly_and_looking_again_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sampler.sample
    interrupted: list[int] = []

    def interrupts_the_look(self: Sampler, seed: int) -> Run:
        run = sample(self, seed)
        if run.found and interrupted.append(seed) is None and len(interrupted) == 2:
            raise Interrupted(between_runs=True)
        return run

    monkeypatch.setattr(Sampler, "sample", interrupts_the_look)
    campaign = Sampler(MemoryEngine(), Settings(stuck_timeout=5 * MINUTE)).explore(seed=0, runs=99)

    assert campaign.interrupted
    assert [finding.minimal for finding in campaign.findings] == [False]


@pytest.mark.parametrize(
    ("asked", "search"),
    [
        ("doors.cli.search.with_fixes", "explore memory --set stuck_timeout=5m --runs 60"),
        ("search.reproduction.play", "explore memory --set stuck_timeout=5m --runs 60"),
        ("doors.cli.search.with_fixes", "exhaust memory+result-overwritten --jobs 1"),
    ],
)
def test_who_interrupts_the_telling_is_told_all_findings(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: str, search: str
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"job_harness.{asked}", interrupted)

    assert main([*search.split(), "--keep-going", "--json", "found.json"]) == 130
    assert json.loads(Path("found.json").read_text(encoding="utf-8"))["interrupted"]

    shown = capsys.readouterr().out
    assert shown.count("FAIL  ") == shown.count(": interrupted.\n") > 1


@pytest.mark.parametrize("blocked", ["a file where the folder is to be", "no file can hold it"])
def test_a_finding_that_cannot_be_written_is_shown_and_the_reason_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    if blocked == "no file can hold it":
        monkeypatch.setattr(
            "job_harness.search.reproduction.write_scenario", lambda scenario: "format: 1\njobs: {a: {tool: 3}}\n"
        )
    else:
        (folder / ".job-harness").write_text("", encoding="utf-8")

    assert main(["explore", "memory", *SEARCH, "--json", "found.json"]) == 1

    shown = capsys.readouterr().out
    (finding,) = json.loads((folder / "found.json").read_text())["findings"]
    assert "Not written: " in shown
    assert "Replayed on memory: fail, shows taken_back_early again." in shown
    assert (finding["written"], finding["replay"]) == (None, None)
    assert finding["anomaly"] == "taken_back_early"
    assert finding["not_written"] in " ".join(shown.split())


def test_a_replay_on_another_engine_tells_where_the_two_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ["explore", "memory+priority-ignored", "--runs", "500", "--looking-for", "priority_inversion"]

    assert main([*search, "--replay-on", "reference,memory"]) == 1

    shown = capsys.readouterr().out
    assert "Replayed on memory+priority-ignored: fail, shows priority_inversion again." in shown
    assert "Replayed on reference: pass, does not show priority_inversion." in shown
    assert "claim: memory+priority-ignored and reference differ\n" in shown
    assert "Replayed on memory: pass, does not show priority_inversion." in shown


def test_a_search_reports_to_ci_what_it_found_and_what_it_could_not_judge(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["explore", "memory+expire-never", "--runs", "60", "--looking-for", "job_stuck"]
    search += ["--annotations", "--junit", "junit.xml", "--quiet"]
    assert main(search) == 1
    written = ".job-harness/found/job_stuck-memory+expire-never.yaml"
    case = ElementTree.parse(folder / "junit.xml").find(".//testcase[@name='job_stuck']")
    assert case is not None
    assert case.get("file") == written
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "job_stuck"
    assert "One fault: " in str(failure.text)
    assert f"::error file={written},line=1,title=memory+expire-never" in capsys.readouterr().out

    assert main(["exhaust", "memory", "--jobs", "1", "--states", "9", "--junit", "junit.xml", "--annotations"]) == 3
    assert ElementTree.parse(folder / "junit.xml").find(".//testcase/skipped") is not None
    assert "::warning title=memory%3A search::inconclusive: " in capsys.readouterr().out


def test_a_divergence_is_told_in_words() -> None:
    left, right = Claim("b", 1, 1, "w1", "tool", 0), Claim("c", 1, 1, "w1", "tool", 0)
    differences = (
        Difference("value", [left], []),
        Difference("b.status", Status.PROCESSING, Status.PENDING),
        Difference("c.token", right.token, None),
    )

    told = str(Divergence(("one", "other"), 3, 0, "w1", "claim", None, (), differences))

    assert told.splitlines()[1:] == [
        "  value     one: b (attempt 1)  other: nothing",
        "  b.status  one: PROCESSING  other: PENDING",
        "  c.token   one: 1  other: None",
    ]


def test_what_was_seen_before_a_step_was_cut_short_is_shown_and_not_run_again(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sampler.sample
    done: list[Run] = []

    def cut(self: Sampler, seed: int) -> Run:
        if len(done) > 2 and "taken_back_early" in done[-1].found:  # Run 0 is done twice.
            raise KeyboardInterrupt
        done.append(sample(self, seed))
        return done[-1]

    monkeypatch.setattr(Sampler, "sample", cut)

    assert main(["explore", "memory", *SEARCH, "--keep-going", "--json", "found.json"]) == 130

    report = json.loads((folder / "found.json").read_text())
    (found,) = report["findings"]
    assert (report["verdict"], report["interrupted"], report["not_shown"]) == ("fail", True, [])
    assert (found["anomaly"], found["minimal"]) == ("taken_back_early", False)
    assert "taken_back_early on memory" in capsys.readouterr().out


@pytest.mark.parametrize(("in_claim", "blamed"), [(True, "claim"), (False, "expire")])
def test_where_a_claim_is_never_taken_back_the_verb_is_shown_that_should_have(in_claim: bool, blamed: str) -> None:
    dying = "format: 1\nworkers: [w1]\njobs: {a: {}}\nsteps: [crash w1 while running a, run until idle]\n"
    run = play(read_scenario_text(dying, path="x.yaml"), engine=open_engine("memory+expire-never"))
    info = EngineInfo(
        "q", Capabilities(takes_back_in_claim=in_claim), written=lambda verb, sql: WrittenSource(f"queue.yaml: {verb}")
    )
    assert with_source(run, info, anomaly="job_stuck").source == WrittenSource(f"queue.yaml: {blamed}")
