"""The preload of Python processes says when a program is at rest, orders its threads, and seeds what it draws."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from types import MappingProxyType, ModuleType
from typing import Any

import pytest

from job_harness.subjects.systems.process import PYTHON_PRELOAD

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the preload asks Linux who sleeps")

KEY = "1:2"


@pytest.fixture
def preload() -> ModuleType:
    spec = importlib.util.spec_from_file_location("preload", PYTHON_PRELOAD / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ScriptedProgram:
    """A program of one thread: how often it was switched to, and what it has read and written, look by look.

    A change happens at a look at its sockets, just before it, as a thread may wake between two looks of ours.
    """

    def __init__(self, *at_looks: tuple[int, int, int], unread: Mapping[str, int] = MappingProxyType({})) -> None:
        self.unread = dict(unread)
        self._at_looks: Iterator[tuple[int, int, int]] = iter(at_looks)
        self.switches, self.read, self.wrote = 0, 0, 0

    def threads(self, own: int) -> dict[str, int]:
        return {"main": self.switches}

    def sockets(self) -> tuple[dict[str, list[Any]], dict[str, int], bool, int]:
        self.switches, self.read, self.wrote = next(self._at_looks, (self.switches, self.read, self.wrote))
        return {KEY: [self.read, self.wrote, False, False]}, self.unread, False, 0


GREETED, ASKS = (1, 100, 40), (2, 100, 90)
"""A driver has read the server's greeting and is at work; it has sent its first statement and sleeps."""


def rested(
    preload: ModuleType,
    program: ScriptedProgram,
    monkeypatch: pytest.MonkeyPatch,
    *,
    sent: int,
    others: Mapping[str, tuple[int, bool]] = MappingProxyType({}),
) -> dict[str, list[Any]]:
    monkeypatch.setitem(preload._real, "sleep", lambda seconds: None)
    monkeypatch.setattr(preload, "_sleeps", lambda: True)
    monkeypatch.setattr(preload, "_threads", program.threads)
    monkeypatch.setattr(preload, "_sockets", program.sockets)
    channel = preload.Channel.__new__(preload.Channel)
    channel._known, channel._unread, channel._left = set(), ({}, 0.0), {}
    channel._children = preload.Children()
    told: dict[str, list[Any]] = channel._rest(1, {KEY: (sent, False), **others}, 1)[0]
    return told


def test_what_wakes_a_program_after_it_was_seen_to_sleep_is_not_told_as_read(
    preload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ScriptedProgram((0, 0, 40), GREETED, ASKS)
    assert rested(preload, program, monkeypatch, sent=0) == {KEY: [0, 40, False, False]}


def test_a_program_that_has_read_what_it_was_sent_is_at_work_until_it_sleeps_again(
    preload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ScriptedProgram((0, 0, 40), GREETED, ASKS)
    assert rested(preload, program, monkeypatch, sent=100) == {KEY: [100, 90, False, False]}


def test_what_has_arrived_and_no_thread_waits_for_is_rest_once_all_have_slept_for_a_while(
    preload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(100)
    monkeypatch.setitem(preload._real, "monotonic", lambda: next(clock) / 10)
    monkeypatch.setattr(preload.Channel, "send", lambda self, told: None, raising=False)
    program = ScriptedProgram(unread={KEY: 20})
    assert rested(preload, program, monkeypatch, sent=20) == {KEY: [0, 0, False, True]}
    assert next(clock) > 103, "it was given time to read it"
    still_to_come = ScriptedProgram(*[(0, 0, 0)] * 40, (1, 30, 0), unread={KEY: 20})
    assert rested(preload, still_to_come, monkeypatch, sent=30)[KEY][0] == 30


def test_a_connection_of_a_child_is_not_looked_for_while_children_live(
    preload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, theirs = ScriptedProgram(ASKS), {"3:4": (70, False)}
    assert "3:4" not in rested(preload, program, monkeypatch, sent=100, others=theirs)
    monkeypatch.setattr(preload.Children, "live", True)
    told = rested(preload, program, monkeypatch, sent=100, others=theirs)
    assert told == {KEY: [100, 90, False, False], "3:4": [70, 0, False, True]}


def test_a_connection_that_was_asked_for_and_is_not_there_yet_keeps_a_program_at_work(preload: ModuleType) -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # It holds one connection: what asks for the next ones is not answered.
        asked = [opened.enter_context(closing(socket.socket())) for _ in range(4)]
        for each in asked:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        waits = [each for each in asked if state_of(each) == preload._CONNECTS]
        assert waits
        *_, busy, waiting = preload._sockets()
        assert busy
        assert waiting >= 1, "what it has not accepted is known to wait"


def state_of(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def test_bytes_that_tcp_sent_twice_were_written_once(preload: ModuleType) -> None:
    info = bytearray(256)
    struct.pack_into("I", info, preload._NOT_SENT, 7)
    struct.pack_into("QQ", info, preload._SENT, 150, 50)
    assert preload._wrote(bytes(info)) == 107


@pytest.fixture
def started(preload: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], threading.Thread]:
    for name in ("start", "join", "_bootstrap_inner"):
        monkeypatch.setattr(threading.Thread, name, getattr(threading.Thread, name))
    preload._install_threads()

    def start(work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work)
        thread.start()
        return thread

    return start


def test_a_thread_comes_to_its_first_sleep_before_its_starter_goes_on(
    started: Callable[[Callable[[], object]], threading.Thread],
) -> None:
    said, may_end = list[str](), threading.Event()

    def work() -> None:
        for _ in range(2_000_000):
            pass
        said.append("thread")
        may_end.wait()

    thread = started(work)
    said.append("starter")
    may_end.set()
    thread.join()
    assert said == ["thread", "starter"]


def test_a_thread_that_computes_until_its_starter_goes_on_is_let_go(
    preload: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    started: Callable[[Callable[[], object]], threading.Thread],
) -> None:
    monkeypatch.setattr(preload, "_MOST_COMPUTED", 0.02)
    gone_on = list[bool]()

    def work() -> None:
        while not gone_on:
            pass

    thread = started(work)
    gone_on.append(True)
    thread.join()
    assert not thread.is_alive()


def test_a_generator_that_a_package_made_before_the_run_draws_by_its_seed(
    preload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((os, "urandom"), (random, "_urandom"), (random, "seed"), (random.Random, "seed")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(random, "_inst", random.Random())

    def drawn(seed: str) -> float:
        chance = preload.Chance()
        chance.install()
        early = random.Random()
        chance.begin(seed)
        return early.random()

    assert drawn("a seed") == drawn("a seed") != drawn("another")
