"""A factory of queues is a target of its own, and one that is none is told what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.explore.sampling import Sampler
from harness.wiring import open_target

QUEUE = """
from harness.adapters.memory import MemoryQueue
from harness.port import Capabilities


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
    name = "opens"

    def open(self, settings, clocks, jitter):
        pass


class Silent:
    def enqueue(self):
        pass
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_queue.py"
    path.write_text(QUEUE)
    return str(path)


@pytest.mark.parametrize("factory", ["Mine", "bare"])
def test_a_class_or_a_function_that_makes_queues_is_searched(file: str, factory: str) -> None:
    engine = open_target(f"{file}:{factory}")
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
        ("wrong", "answered int, which is no target"),
        ("raises", "cannot be made: ValueError: no disk (at "),
        ("Opens", "made no engine: Opens has no capabilities and no close"),
        ("Silent", "has no `capabilities`"),
        ("Mein", "has no 'Mein' (did you mean 'Mine'?)"),
    ],
)
def test_what_is_no_target_is_told_what_it_lacks(file: str, factory: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_target(f"{file}:{factory}")
    assert told in str(caught.value)
