"""Waiting for other processes, whose descriptors may have numbers that `select` refuses."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from job_harness.doors.serve import Conversation, HarnessService
from job_harness.doors.serve.conversation import PLAY_SECONDS
from job_harness.worlds import patience
from job_harness.worlds.patience import WorkLimit, ready, used_by
from job_harness.worlds.redis.gating import RedisEndpoint
from job_harness.worlds.wire.postgres_proxy import PostgresEndpoint
from job_harness.worlds.wire.proxy import ListeningSocket

FIRST_REFUSED = 1024


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, with high numbers."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(2 * FIRST_REFUSED, before[1])), before[1]))
    low = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FIRST_REFUSED) for end in low)
    for end in low:
        os.close(end)
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):
            os.close(end)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_can_be_read_or_written_is_told_in_the_order_asked_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    again = os.dup(reading)
    assert ready([reading, again], [writing], seconds=0) == ([], [writing])
    os.write(writing, b"x")
    assert ready([reading, again], seconds=None) == ([reading, again], [])
    os.read(again, 1)
    os.close(writing)
    assert ready([again, reading], seconds=0) == ([again, reading], []), "its end can be read"
    os.close(again)


def _converses(folder: Path, reading: int) -> None:
    with (folder / "said").open("wb") as said:
        assert Conversation(reading, said.fileno()).play({}) == {"played": 1}


def _serves_postgresql(folder: Path, reading: int) -> None:
    pool: Any = SimpleNamespace(url="")
    endpoint = PostgresEndpoint("w1", ListeningSocket.in_folder(folder / "p", "s"), pool)
    endpoint.listen(reading, 0)
    endpoint.cut()


def _serves_redis(folder: Path, reading: int) -> None:
    endpoint = RedisEndpoint("w1", ListeningSocket.in_folder(folder / "r", "s"), folder)
    endpoint.listen(reading, 0)
    endpoint.cut()


@pytest.mark.parametrize("listens", [_converses, _serves_postgresql, _serves_redis])
def test_a_process_with_many_open_files_is_heard(
    listens: Callable[[Path, int], None], pipe: tuple[int, int], tmp_path: Path
) -> None:
    os.write(pipe[1], json.dumps({"played": 1}).encode() + b"\n")
    listens(tmp_path, pipe[0])


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """What the system says about the processes at each look, one every 0.5 s; the last one stands."""
    looks, clock = [(0.0, False)], [0.0]

    def now() -> float:
        clock[0] += 0.5
        return clock[0]

    monkeypatch.setattr(patience, "_now", now)
    monkeypatch.setattr(patience, "used_by", lambda process: looks.pop(0) if len(looks) > 1 else looks[0])
    return looks


@pytest.mark.parametrize(
    ("told", "after"),
    [
        ([(7.0, False)], 4),  # It sleeps, whatever it used before.
        ([(7.0, True)] * 40 + [(7.0, False)], 40 + 3),  # It waits for its turn.
        ([(0.0, False)] + [(0.2 * look, False) for look in range(1, 99)], 10),  # It computes, now and then.
        ([(0.0, False)] + [(0.02 * look, False) for look in range(1, 99)], 16),  # It looks for something, for ever.
        ([(0.0, True), (0.5, True), (1.0, True), (1.5, True), (2.0, True)], 4),  # An endless loop.
    ],
    ids=["sleeps", "waits", "computes", "polls", "loops"],
)
def test_what_a_process_computes_counts_and_time_only_while_it_neither_does_nor_could(
    looks: list[tuple[float, bool]], told: list[tuple[float, bool]], after: int
) -> None:
    looks[:] = told
    limit, count = WorkLimit(1, 2.0), 0
    while not limit.passed:
        count += 1
    assert count + 1 == after


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what processes have computed")
def test_what_a_child_of_a_child_computes_is_known_while_it_lives_and_once_it_has_ended() -> None:
    code = "import os\nif os.fork(): os.wait(); print(flush=True); input()\nelse:\n while os.times()[0] < 0.2: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert used_by(child.pid)[0] >= 0.2
        child.communicate(b"\n")
    assert used_by(child.pid) == (0.0, False)
    assert used_by(os.getpid())[1]


def test_a_client_is_waited_for_within_its_limit(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([False, False, True])

    class Limit:
        passed = property(lambda self: next(ends))

        def __init__(self, process: int, seconds: float) -> None:
            assert seconds == 0.9

    monkeypatch.setattr("job_harness.doors.serve.conversation.WorkLimit", Limit)
    conversation = Conversation(pipe[0], pipe[1])
    waited: list[float] = []
    monkeypatch.setattr(conversation, "_line", waited.append)
    assert conversation._awaited(1.0) is None
    assert waited == pytest.approx([0.1, 0.5, 0.5])


def test_a_client_that_a_debugger_may_hold_is_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def told(reading: Any, *, seconds: float) -> Any:
        waited.append(seconds)
        os.write(pipe[1], lines.pop(0))
        return ready(reading, seconds=0)

    lines = [
        json.dumps(line).encode() + b"\n"
        for line in ({"process": os.getpid(), "inspected": True}, {"ask": 1, "do": "nothing"}, {"played": 1})
    ]
    monkeypatch.setattr("job_harness.doors.serve.conversation.ready", told)
    conversation = Conversation(pipe[0], os.open(os.devnull, os.O_WRONLY))
    conversation.service = HarnessService(conversation)
    assert conversation.play({}) == {"played": 1}
    assert waited[0] <= PLAY_SECONDS < 24 * 3000 < waited[-1]
