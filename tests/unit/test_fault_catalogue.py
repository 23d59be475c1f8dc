"""A fault is a value: whatever deals with faults finds a new one in the catalogue, and knows none by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docs import generate

import job_harness
from job_harness.core.faults import (
    FaultKind,
    FaultPlan,
    Phrase,
    catalogue,
    cause_of,
    excuses,
    kinds,
    read_option,
    word_fault,
)
from job_harness.core.history.event import Excuse, Fault
from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import GRAMMAR, Scenario, parse_step
from job_harness.core.sim.choices import Deviation, Uniform
from job_harness.doors.cli.campaign_screen import campaign_lines
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.report.screen import causes_of, fault_text
from job_harness.search.coverage import SITUATIONS, Cell, Coverage
from job_harness.search.finding import Campaign
from job_harness.search.sampling import Sampler
from job_harness.search.scope.bounds import Scope
from job_harness.search.shrink import Shrinker
from job_harness.search.strategy import Strategy, SwarmChoices

FORM = Phrase("blackout for ", "MOMENT", timed=True, plainer="crash")


def _blackouts(met: Any, kernel: Any, actor: Any) -> Any:
    return met.timed("blackout", FORM) if actor is not None and actor.process else ()


def _blackout(met: Any, kernel: Any, actor: Any, option: Any) -> None:
    met.note(actor.name, "blackout", {"at": actor.point, "for": met.moments[option.argument]})
    kernel.pause(actor, met.moments[option.argument])


BLACKOUT = FaultKind(
    id="blackout",
    sentence="The power of a process is cut for a while.",
    words=(FORM,),
    options=_blackouts,
    apply=_blackout,
    events=("blackout",),
    excuses=Excuse.LATE,
)


@pytest.fixture
def _brought(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let another package bring the fault, as if by entry point."""
    monkeypatch.setattr(catalogue, "brought", lambda group: {"blackout": BLACKOUT})
    kinds.cache_clear()
    yield
    kinds.cache_clear()


@pytest.mark.usefixtures("_brought")
def test_a_fault_of_another_package_is_known_wherever_faults_are() -> None:
    drawn = [Sampler(MemoryEngine(), strategy=Strategy.SWARM).sample(seed) for seed in range(40)]
    met = Coverage()
    for run in drawn:
        met.observe(run.history)
    assert any(cell.fault == "blackout" for cell in met.faults), "the workload draws it, and it strikes"
    assert {SwarmChoices(seed).weights["blackout"] for seed in range(20)} == {0, 1, 4}, "a swarm weighs it"
    screen = [
        line.text for line in campaign_lines(Campaign("memory", 0, runs=40, coverage=met), Capabilities(), whole=True)
    ]
    assert any("blackout struck " in text for text in screen)
    assert (
        "| `blackout` | The power of a process is cut for a while. | `blackout for MOMENT` | none |"
        in generate._faults()
    )
    assert excuses()["blackout"] is Excuse.LATE
    assert Scope(faults=FaultPlan(blackout=2)).sentence() == "2 workers, 2 jobs, 2 blackouts"
    assert FaultPlan.of_tape(["blackout for a lease", "w2 first"]) == FaultPlan(blackout=1)


@pytest.mark.usefixtures("_brought")
def test_a_shrinker_drops_a_fault_of_another_package_shortens_it_and_makes_it_plainer() -> None:
    tape = (Deviation("w1 start a", 1, "blackout for a lease + 1s"), Deviation("w1 complete a", 1, "crash"))
    scenario = Scenario(title="", settings=Settings(), workers=("w1",), jobs=(JobPlan("a"),), tape=tape)
    run = Session(scenario, engine=MemoryEngine()).run()
    tapes = [one.tape for one in Shrinker(run, "", lambda _: None, base=Settings())._candidates()]  # type: ignore[arg-type, return-value]
    assert tape[1:] in tapes
    assert (Deviation("w1 start a", 1, "crash"), tape[1]) in tapes
    assert "blackout for 1s" in _shorter_words("blackout for a lease + 1s")


def _shorter_words(words: str) -> list[str]:
    from job_harness.core.model.moments import moments
    from job_harness.search.shrink import _shorter

    return _shorter(words, moments(Settings()))


@pytest.mark.usefixtures("_brought")
def test_a_monitor_excuses_what_a_fault_of_another_package_explains() -> None:
    def run(excuse: Excuse | None) -> Run:
        kinds.cache_clear()
        catalogue.brought = lambda group: {"blackout": replace(BLACKOUT, excuses=excuse)}  # type: ignore[assignment]
        tape = (Deviation("w1 complete a", 1, "blackout for a lease + a retry"),)
        scenario = Scenario(settings=Settings(), workers=("w1", "w2"), jobs=(JobPlan("a"),), tape=tape)
        return Session(scenario, engine=MemoryEngine()).run()

    assert run(Excuse.LATE).found == frozenset()
    assert "healthy_claim_taken_back" in run(None).found


def test_every_kind_of_option_reads_back_from_its_words_and_says_what_it_is() -> None:
    for kind in kinds().values():
        for phrase in kind.words:
            option = phrase.option(kind.id, phrase.example)
            assert read_option(str(option)) == option
        assert kind.sentence.endswith(".")
        assert word_fault(Fault(0, "w1", kind.events[0], {}))
    assert read_option("sings").kind == catalogue.UNKNOWN


FORMAT_1 = {
    "crash": "crash",
    "crash after": "crash",
    "pause a lease + a retry": "pause",
    "lose request": "lost_message",
    "lose reply": "lost_message",
    "deliver twice": "duplicate",
    "late by 1s": "lateness",
    "store clock ahead 5s": "clock_offset",
    "own clock behind 2m": "clock_offset",
    "stop": "shutdown",
    "crash leaving its session for a lease": "abandoned_session",
    "store clock drifts ahead": "clock_drift",
    "own clock drifts behind": "clock_drift",
    "client-a first": "first",
    "w2 next": "next",
    "time first": "time",
}
"""What tapes hold that were written before options were values."""


@pytest.mark.parametrize(("words", "kind"), FORMAT_1.items())
def test_what_a_tape_of_format_1_says_is_what_it_said(words: str, kind: str) -> None:
    option = read_option(words)
    assert (option.kind, str(option)) == (kind, words)


def test_a_tape_with_an_abandoned_session_is_no_plain_crash() -> None:
    tape = ["crash leaving its session for a lease", "own clock drifts ahead", "crash after", "w1 first", "1/2"]
    assert FaultPlan.of_tape(tape) == FaultPlan(abandoned_session=1, clock_drift=1, crash=1)


def test_a_campaigns_screen_counts_what_has_no_column() -> None:
    met = Coverage(observed=4)
    met.faults.update({Cell("-", "time", "drift"): 3, Cell("PROCESSING", "running", "crash"): 1})
    met.faults[Cell("-", "start", "abandoned_session")] = 1
    text = "\n".join(
        line.text for line in campaign_lines(Campaign("memory", 0, runs=4, coverage=met), Capabilities(), whole=True)
    )
    assert "A process left its session behind once; a clock drifted 3 times." in text


def test_a_history_tells_an_abandoned_session_from_a_crash() -> None:
    left = Fault(0, "w1", "crash", {"at": "claim", "after": False, "session_stays": 1_000_000})
    assert catalogue.strike_of(left) == "abandoned_session"
    assert catalogue.strike_of(left._replace(data={"at": "claim", "after": True})) == "crash after"
    assert fault_text(left) == "CRASHES at claim, its session stays 1s"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": ("blackout",)}, "it must be a tuple of Phrase"),
        ({"words": (Phrase("crash"),)}, "a tape already means something else by 'crash'"),
        ({"events": ()}, "events is (); it must be a tuple of names"),
        ({"weight": ("often",)}, "it must be counts, as texts"),
        ({"needs": ("session",)}, "it needs 'session' (did you mean 'sessions'?), which is not a capability"),
        ({"apply": None}, "options and apply must be functions"),
    ],
)
def test_a_fault_of_another_package_that_is_made_wrong_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(catalogue, "brought", lambda group: {"blackout": replace(BLACKOUT, **change)})
    kinds.cache_clear()
    with pytest.raises(UsageError) as told:
        FaultPlan(blackout=1)
    kinds.cache_clear()
    assert said in told.value.message
    assert "job_harness.faults:blackout of another package: " in told.value.message


def test_a_fault_that_offers_what_is_not_its_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = replace(BLACKOUT, options=lambda *_: (Phrase("crash").option("crash"),))
    monkeypatch.setattr(catalogue, "brought", lambda group: {"blackout": strange})
    kinds.cache_clear()
    session = Session(
        Scenario(settings=Settings(), workers=("w1",), jobs=(JobPlan("a"),)),
        engine=MemoryEngine(),
        choices=Uniform(1, rate=1.0),
        faults=FaultPlan(blackout=1),
    )
    with pytest.raises(UsageError, match="the fault blackout of another package raised ValueError: it offers"):
        session.run()
    kinds.cache_clear()


def test_a_plan_refuses_a_fault_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no such fault: 'crush' \(did you mean 'crash'\?\)"):
        FaultPlan(crush=1)


def test_a_job_that_is_sent_later_is_an_order_and_a_worker_that_stands_still_a_fault() -> None:
    sent, stalled = (cause_of(Deviation(at, 1, "time first")) for at in ("client-b enqueue b", "w1 complete b"))
    assert sent == ("time passes", False, "before client-b's `enqueue b`")
    assert stalled[:2] == ("w1 stalls before `complete b`", True)


ANOTHER_WORD = (
    ("review/check/", "options and calls of other people's queues"),
    ("core/scenario/", "kinds of a scenario's steps: there an author names what is to go wrong"),
    ("engines/bullmq/", "delay: an option of its jobs"),
    ("engines/pgqueuer/", "delay: what a retry waits"),
    ("engines/celery/", "late: its option acks_late"),
    ("engines/queue_file/", "delay: a parameter of a statement"),
    ("conformance/judge.py", "shutdown: a folder of scenarios"),
    ("worlds/peers/", "clock: a field of the peer protocol"),
    ("worlds/clock/", "clock, drift: what the supervisor of processes is told"),
    ("systems/python/sitecustomize.py", "clock: a field of the peer protocol"),
    ("systems/traffic.py", "abort: a statement of SQL"),
    ("invariants/ownership.py", "abort: a statement of SQL"),
    ("history/event.py", "late, clock: what a fault excuses, and no fault"),
    ("invariants/limits.py", "pause: a verb of a queue"),
    ("invariants/order.py", "pause: a verb of a queue"),
    ("core/port.py", "pause: a verb of a queue"),
    ("run/director.py", "pause: a verb of a queue"),
    ("run/stock.py", "pause: a verb of a queue"),
    ("report/picture.py", "clock: a field of an event in JSON"),
)
"""Where a word that names a fault elsewhere means something else."""


def _is_called(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _named_in(path: Path, names: frozenset[str]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_called(node.targets[0], "__slots__"):
            shown |= set(map(id, ast.walk(node)))  # the names of attributes
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in shown and node.value in names:
            yield f"{path}:{node.lineno}: {node.value!r}"
        elif isinstance(node, ast.Call) and _is_called(node.func, "FaultPlan"):
            yield from (f"{path}:{node.lineno}: {key.arg}=" for key in node.keywords if key.arg in names)


def test_no_module_but_those_of_faults_knows_a_fault_by_name() -> None:
    phrases = (phrase for kind in catalogue.CATALOGUE for phrase in kind.words)
    names = frozenset(
        {phrase.words.strip() for phrase in phrases}
        | {name for kind in catalogue.CATALOGUE for name in (kind.id, *kind.events)}
    )
    root = Path(job_harness.__file__).parent
    modules = [path for path in root.rglob("*.py") if "faults" not in path.relative_to(root).parts]
    known = {path: list(_named_in(path, names)) for path in modules}
    allowed = {path: [one for one, _ in ANOTHER_WORD if one in path.relative_to(root).as_posix()] for path in modules}
    assert [line for path, lines in known.items() if not allowed[path] for line in lines] == []
    used = {one for path, lines in known.items() if lines for one in allowed[path]}
    assert used == {one for one, _ in ANOTHER_WORD}, "an exception that nothing needs any more"


def test_every_situation_that_a_fault_makes_is_one_that_a_campaign_declares() -> None:
    made = [kind.situation.name for kind in kinds().values() if kind.situation is not None]
    assert len(made) == 4
    assert set(made) <= {situation.name for situation in SITUATIONS}


@pytest.mark.parametrize("step", [example for kind, _, example in GRAMMAR if kind in ("away", "cut", "delay")])
def test_a_step_that_makes_something_go_wrong_is_a_cause_on_the_screen(step: str) -> None:
    jobs = (JobPlan("a"),)
    scenario = Scenario(settings=Settings(), workers=("w1",), jobs=jobs, steps=(parse_step(step),))
    causes = [line.text for line in causes_of(Session(scenario, engine=MemoryEngine()).run())]
    assert causes[0] == f"One fault: {step}"
