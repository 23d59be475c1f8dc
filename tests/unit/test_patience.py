"""Waiting for other processes, whose descriptors may have numbers that `select` refuses."""

from __future__ import annotations

import fcntl
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from job_harness.doors.serve import Conversation
from job_harness.doors.serve.conversation import PLAY_SECONDS
from job_harness.worlds.patience import ready, used_by
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


def test_a_client_that_waits_for_its_turn_to_run_is_not_blocked_but_one_that_does_nothing_is(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = Conversation(pipe[0], pipe[1])
    looks = iter([(0.0, "R"), (0.2, "R"), (0.5, "R"), (1.0, "R"), (0.0, "S"), (0.1, "S")])
    monkeypatch.setattr("job_harness.doors.serve.conversation.used_by", lambda process: next(looks))
    waited: list[float] = []
    monkeypatch.setattr(conversation, "_line", waited.append)
    assert conversation._awaited(1.0) is None
    assert waited == pytest.approx([0.1, 0.9, 0.7, 0.4]), "an endless loop uses its time, and is given no more"
    waited.clear()
    assert conversation._awaited(1.0) is None
    assert waited == pytest.approx([0.1, 0.9]), "it sleeps"
    assert used_by(os.getpid())[1] == "R"
    assert used_by(2**22 + 1) == (float("inf"), "")


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
    assert conversation.play({}) == {"played": 1}
    assert waited[0] <= PLAY_SECONDS < 24 * 3000 < waited[-1]
