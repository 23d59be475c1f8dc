"""A factory of queues is a target of its own, and one that is none is told what it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.port import Contract
from job_harness.doors.cli import main
from job_harness.doors.cli.search import print_unjudged
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine
from job_harness.search.workload import endings_for

QUEUE = """
from job_harness.engines.memory import MemoryQueue
from job_harness.core.port import Capabilities


class Mine(MemoryQueue):
    pass


class Bare:
    '''Delegates, and leaves out what it may.'''
    capabilities = Capabilities()

    def __init__(self, queue):
        for verb in ("enqueue", "claim", "complete", "fail", "expire", "jobs"):
            setattr(self, verb, getattr(queue, verb))


def bare(settings, clocks, jitter):
    return Bare(MemoryQueue(settings, clocks, jitter))


class Misspelled(Bare):
    capabilities = Capabilities(heartbeat=True)

    def __init__(self):
        pass

    def completed(self):
        pass


def greedy(settings, clock):
    pass


def wrong():
    return 7


def raises():
    raise ValueError("no disk")


class Opens:
    def open(self, settings, clocks, jitter):
        pass


class Engine:
    lacks = "close"

    def __init__(self):
        from job_harness.engines.memory import MemoryEngine
        self.info = MemoryEngine().info

    def open(self, settings, clocks, jitter):
        whole = MemoryQueue(settings, clocks, jitter)
        names = [name for name in dir(whole) if name[0] != "_" and name not in self.lacks.split()]
        return type("Half", (), {name: staticmethod(getattr(whole, name)) for name in names})()

    def close(self):
        pass


class Claimless(Engine):
    lacks = "claim"


class Silent:
    def enqueue(self):
        pass
"""


def test_a_search_names_what_the_users_own_file_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    engine = MemoryEngine()
    intended = {"job_stuck": "by design", "zombie": "so"}
    contract = Contract(intended=intended, unseen={"lost": "no row"}, file="queue.yaml")
    engine.info = replace(engine.info, contract=contract)

    print_unjudged(engine, frozenset({"job_stuck"}))

    assert capsys.readouterr().out == (
        "Not reported: job_stuck (--without).\nNot reported: zombie (`without` in queue.yaml).\n"
        "Not judged: lost (no row).\n"
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_queue.py"
    path.write_text(QUEUE)
    return str(path)


@pytest.mark.parametrize("factory", ["Mine", "bare"])
def test_a_class_or_a_function_that_makes_queues_is_searched(file: str, factory: str) -> None:
    engine = open_engine(f"{file}:{factory}")
    done = Sampler(engine).explore(seed=1, runs=12)
    assert done.runs == 12
    assert done.findings == ()
    assert engine.info.name == f"{file}:{factory}"


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("Misspelled", "lacks enqueue, which every queue needs, claim, which every queue needs, complete, which every"),
        ("Misspelled", "needs (did you mean 'completed'?)"),
        ("Misspelled", "heartbeat, which its capability heartbeat needs"),
        ("greedy", "asks for clock (did you mean 'clocks'?)"),
        ("wrong", "returned an int; expected an engine, a queue or an application"),
        ("raises", "raises() raised ValueError: no disk ("),
        ("Opens", "made no engine: Opens has no info and no close"),
        ("Silent", "has no `capabilities`"),
        ("Mein", "has no 'Mein' (did you mean 'Mine'?)"),
    ],
)
def test_what_is_no_target_is_told_what_it_lacks(file: str, factory: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_engine(f"{file}:{factory}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "lacks"),
    [
        ("Engine", "close, which every queue needs"),
        ("Claimless", "claim, which every queue needs"),
    ],
)
def test_a_queue_that_an_engine_opens_is_told_by_its_class_what_it_lacks(
    file: str, factory: str, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", f"{file}:{factory}", "--runs", "1"]) == 2
    assert f"open() of memory returned Half, which lacks {lacks}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["explore"], ["exhaust"], ["conform"], ["run", "--engine"]])
def test_the_url_of_a_database_is_no_target_and_its_password_is_not_shown(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "postgresql://me:secret@db/production"]) == 2
    told = capsys.readouterr().err
    assert "the URL of a postgresql server is no target: runs never write to a database of yours" in told
    assert "secret" not in told


APPLICATION = """
from dataclasses import replace
from job_harness.core.port import Capabilities, Contract


class Mine:
    capabilities = Capabilities(heartbeat=True, maintenance=True, virtual_time=True, own_attempts=False)
    contract = Contract(
        documented={"job_never_run": "nobody works here"},
        effective=lambda settings: replace(settings, max_attempts=3),
        fixed=frozenset({"max_attempts"}),
    )

    def actors(self, stage):
        return {}

    def send(self, stage, job):
        stage.tables.enqueue(job)

    def claim(self):
        '''A verb of a queue beside those of an application.'''


class Wrong(Mine):
    capabilities = {"heartbeat": True}
"""


def test_an_application_says_what_it_can_do_and_nothing_else_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(APPLICATION, encoding="utf-8")
    engine = open_engine(f"{tmp_path}/mine.py:Mine")
    assert engine.info.processes is not None  # it is no queue, whatever verbs it has
    sampler = Sampler(engine)
    drawn = [sampler.session(seed).scenario for seed in range(30)]
    assert {scenario.settings.max_attempts for scenario in drawn} == {3}
    assert {plan.max_attempts for scenario in drawn for plan in scenario.jobs} == {None}
    assert "fails twice" in endings_for(engine.info.capabilities)
    with pytest.raises(UsageError, match=r"capabilities is .* and has to be a Capabilities"):
        open_engine(f"{tmp_path}/mine.py:Wrong")
