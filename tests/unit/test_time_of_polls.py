"""When processes under the supervisor have looked for work, and when they have something to hear.

A poll that finds nothing says so of the time at which it was sent: it may have that time in its words.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from job_harness.core.model import SECOND, Instant
from job_harness.subjects.systems.supervised import SupervisedGroup, _moment_of

SENT, ANSWERED = 70 * SECOND, 111 * SECOND


class Session:
    """A connection on which a poll comes while time passes; it is answered later."""

    closed, descriptor = False, 7

    def __init__(self) -> None:
        self.known: list[tuple[int, Instant]] = []

    def arrive(self) -> None:
        """Take it."""

    def remember(self, batch: object, *, change: int, at: Instant) -> None:
        """Keep what it found."""
        self.known.append((change, at))


def test_what_came_while_time_passed_was_true_when_it_came_and_not_when_it_was_answered() -> None:
    session = Session()
    process: Any = SimpleNamespace(name="w1", alive=True, sessions=[session], links=[])
    group = cast(Any, object.__new__(SupervisedGroup))
    group.processes, group._came = {"w1": process}, {}
    watched = SimpleNamespace(poll=lambda timeout: [(session.descriptor, 1)])
    group._world = SimpleNamespace(tree=SimpleNamespace(watched=watched, moment=_moment_of(SENT)))
    assert not group._answer_again(lambda asked, now: False)
    group.remember(session, "zrangebyscore", 28, ANSWERED)
    group.remember(session, "zrangebyscore", 28, ANSWERED)  # The next one came to its gate then.
    assert session.known == [(28, SENT), (28, ANSWERED)]


@pytest.mark.parametrize(("touched", "due"), [(True, SENT), (False, ANSWERED)])
def test_a_process_whose_connection_was_cut_hears_of_it_now_and_not_when_it_would_have_looked(
    touched: bool, due: Instant
) -> None:
    group = cast(Any, object.__new__(SupervisedGroup))
    group.processes, group.now = {}, SENT
    tree = {
        "moment": _moment_of(SENT),
        "due": _moment_of(ANSWERED),
        "watched": SimpleNamespace(poll=lambda timeout: []),
    }
    group._world = SimpleNamespace(tree=SimpleNamespace(touched=touched, exits={}, **tree))
    assert group.due_inside(set()) == due
