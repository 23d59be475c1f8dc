"""What a driver says of a server that is not there is told from what a server refuses, in any language."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from job_harness.core.port import Engine
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.engines.pgboss.work import turn_of
from job_harness.errors import EnvironmentUnavailable, ExitCode
from job_harness.search.cases import MEMORY, CaseRunner, Task
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import Peer, PeerLost, _field
from job_harness.worlds.peers.runtime import outcome_of
from job_harness.worlds.postgres.absence import means_absence

ABSENT = [
    ("error: terminating connection due to administrator command", "57P01"),
    ("error: the database system is shutting down", "57P03"),
    ("Error: connect ECONNREFUSED 127.0.0.1:5432", "ECONNREFUSED"),
    ("Error: connect ENOENT /dev/shm/x/.s.PGSQL.5432", "ENOENT"),
    ("Error: Connection terminated unexpectedly", ""),
    ("Error: Client has encountered a connection error and is not queryable", ""),
    ("Error: timeout exceeded when trying to connect", ""),
    ("OperationalError: consuming input failed: server closed the connection unexpectedly", ""),
    ("InterfaceError: connection is closed", ""),
    ("ConnectionDoesNotExistError: connection was closed in the middle of operation", "08003"),
    ("PoolTimeout: couldn't get a connection after 30.00 sec", ""),
]
REFUSED = [
    ("error: duplicate key value violates unique constraint", "23505"),
    ("error: terminating connection is what this job is called", "22P05"),
    ("error: canceling statement due to statement timeout", "57014"),
    ("DeadlockDetected: deadlock detected", "40P01"),
    ("Error: job abc does not exist", ""),
]


@pytest.mark.parametrize(("words", "code"), ABSENT)
def test_a_server_that_is_not_there_is_the_environments(words: str, code: str) -> None:
    assert means_absence(words, code=code)
    with pytest.raises(EnvironmentUnavailable, match="PostgreSQL went away while a peer used it"):
        outcome_of({"idle": 1, "next": None, "raised": words, "code": code or None})


@pytest.mark.parametrize(("words", "code"), REFUSED)
def test_what_a_server_refuses_is_the_queues(words: str, code: str) -> None:
    assert outcome_of({"idle": 1, "next": None, "raised": words, "code": code or None}).reason == words


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a process is stopped")
def test_a_peer_that_a_signal_stopped_is_the_environments_and_one_that_we_ended_says_nothing() -> None:
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    ended, stopped = Peer(command, name="one that we end"), Peer(command, name="one that is stopped")
    for peer in (ended, stopped):
        peer.confirm()
    ended.kill()
    ended.confirm()
    os.kill(stopped.pid, signal.SIGSTOP)
    deadline = Deadline(5.0)
    while _field(stopped.pid, 0) != "T" and not deadline.passed:
        deadline.pause()
    stopped.kill()  # as an interruption in the middle of a turn does
    with pytest.raises(PeerLost, match="stopped by a signal"):
        stopped.confirm()


def test_what_pgboss_emits_while_its_server_goes_is_the_environments() -> None:
    emitted = {"effect": "trouble", "actor": None, "data": {"message": "the database system is shutting down"}}
    with pytest.raises(EnvironmentUnavailable, match="while pg-boss worked on it"):
        turn_of([emitted, {"idle": 1, "next": None, "timers": [], "value": None}])


def test_after_a_peer_was_lost_the_other_cases_say_that_they_were_not_run() -> None:
    class Lost(MemoryEngine):
        def open(self, *given: object) -> MemoryQueue:
            raise PeerLost("died", "its process was killed", name="the child")

    class Shelf:
        def get(self, name: str) -> Engine:
            return Lost()

        def drop(self, name: str) -> None:
            """Nothing was kept."""

    runner = CaseRunner(Shelf())
    first, second = (runner.case(Task(Scenario(jobs=(JobPlan("a"),)), MEMORY)) for _ in range(2))
    assert isinstance(first.error, PeerLost)
    assert str(second.error).startswith("not run: the child: its process was killed")
    assert second.exit_code is ExitCode.ENVIRONMENT
