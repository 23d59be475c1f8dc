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
from job_harness.worlds.patience import ready
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
