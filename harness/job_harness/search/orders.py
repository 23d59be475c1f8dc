"""All orders in which the statements of a few actors can reach PostgreSQL: complete, one after the other, no sampling.

For two or three transactions against each other: which orders there are, what each leaves behind,
who waits for whom.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from job_harness.core.port import Reply
from job_harness.core.sim import Actor, Boring, Kernel, State, Wait
from job_harness.errors import HarnessError, LimitReached
from job_harness.search.loop import Here, play_in_order
from job_harness.worlds.postgres.gating import GatedConnection, SessionCoordinator, SessionPool

Script: TypeAlias = Callable[[GatedConnection], Coroutine[Any, Any, Any]]
"""What one actor does over its own connection; every statement it sends is a step, every commit another."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order, and its outcome."""

    steps: tuple[str, ...]
    """`worker: update tool_job`, in the order in which they were released; a later one may have been answered first."""
    outcomes: Mapping[str, Any]
    """By actor, what it returned, or the exception that it raised."""
    waits: tuple[str, ...] = ()
    """`rescuer: update tool_job`: the steps that waited for a lock of another actor."""
    surprises: tuple[str, ...] = ()
    """Where PostgreSQL let a waiter other than the first go first."""
    left: Any = None
    """What `inspect` returned afterwards."""
    leftovers: tuple[str, ...] = ()
    """Transactions and locks that were left open."""

    @property
    def errors(self) -> dict[str, BaseException]:
        """Return what was raised, by actor."""
        return {actor: value for actor, value in self.outcomes.items() if isinstance(value, BaseException)}

    def __str__(self) -> str:
        return ", ".join(f"{step} (waits)" if step in self.waits else step for step in self.steps)


def all_orders(
    pool: SessionPool,
    actors: Mapping[str, Script],
    *,
    prepare: Callable[[], Any],
    inspect: Callable[[], Any] = lambda: None,
    limit: int = 10_000,
) -> Iterator[Order]:
    """Run `actors` against each other in every order of their statements that PostgreSQL allows.

    `prepare` puts the tables in their first state, before each order; `inspect` looks at what is left. Orders that
    only differ in when a waiting statement was sent are different orders. Raises LimitReached beyond `limit` orders.
    """

    def begin() -> tuple[Any, dict[str, Coroutine[Any, Any, Any]]]:
        prepare()
        room = SessionCoordinator(pool)
        return room, {name: script(room.connection(name)) for name, script in actors.items()}

    return _every(begin, lambda room: inspect(), limit, of=actors)


def all_verb_orders(
    prepare: Callable[[], Any],
    actors: Mapping[str, Callable[[Any], Reply]],
    *,
    inspect: Callable[[Any], Any] = lambda queue: None,
    limit: int = 10_000,
) -> Iterator[Order]:
    """Run one verb of each actor against each other, in every order of its statements and commits.

    `prepare` returns a queue with `Sessions`, in its first state, before each order; each of `actors` is called with
    that queue on its behalf, and returns what the verb does; `inspect` looks at the queue that is left. Raises
    LimitReached beyond `limit` orders.
    """

    def begin() -> tuple[Any, dict[str, Any]]:
        queue = prepare()
        return queue, {name: verb(queue.on_behalf(name)) for name, verb in actors.items()}

    return _every(begin, inspect, limit, of=actors)


def _every(
    begin: Callable[[], tuple[Any, Mapping[str, Any]]],
    inspect: Callable[[Any], Any],
    limit: int,
    *,
    of: Iterable[str],
) -> Iterator[Order]:
    def play(run: _OrderRun) -> Order:
        return run.order(*begin(), inspect)

    return play_in_order(_paths(limit, of=of), Here(play))


def _paths(limit: int, *, of: Iterable[str]) -> Iterator[_OrderRun]:
    """Yield runs that differ in their last possible step first."""
    path: list[int] = []
    for _ in range(limit):
        yield (run := _OrderRun(path))
        while path and path[-1] + 1 >= run.widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1
    raise LimitReached(
        f"there are more than {limit} orders of {', '.join(of)}",
        hint="Take fewer statements or actors, give a higher limit, or sample: `job-harness explore`.",
    )


@dataclass(slots=True)
class _OrderRun:
    """One order: follows `path`, goes on with the first possibility beyond its end and extends it by that."""

    path: list[int]
    widths: list[int] = field(default_factory=list)
    """How many could have acted, step by step."""

    def order(self, stage: Any, frames: Mapping[str, Any], inspect: Callable[[Any], Any]) -> Order:
        """Let the frames act on their stage, which is closed in the end."""
        outcomes: dict[str, Any] = {}
        steps: list[str] = []
        waits: list[str] = []
        kernel = Kernel(Boring(), _NoCalls())
        try:
            for name, frame in frames.items():
                kernel.spawn(name, partial(_noting, name, frame, outcomes))
            while kernel.ready:
                answered = next((actor for actor in kernel.ready if type(actor.request) is Wait), None)
                if answered is not None:
                    kernel.summon(answered)
                    continue
                actor = self._next(kernel)
                step = f"{actor.name}: {actor.request.point}"  # type: ignore[union-attr]
                steps.append(step)
                kernel.summon(actor)
                if actor.state is State.BLOCKED:
                    waits.append(step)
            leftovers = tuple(stage.leftovers())
            left = inspect(stage)
        finally:
            stage.close()
            kernel.bury()
        return Order(tuple(steps), outcomes, tuple(waits), tuple(map(str, kernel.choices.tape)), left, leftovers)

    def _next(self, kernel: Kernel) -> Actor:
        """Choose among those who can act, in the order of the actors."""
        able = sorted(kernel.ready, key=lambda actor: actor.order)
        depth = len(self.widths)
        if depth == len(self.path):
            self.path.append(0)
        self.widths.append(len(able))
        return able[self.path[depth]]


def _noting(name: str, frame: Any, outcomes: dict[str, Any]) -> Generator[Any, Any, None]:
    try:
        outcomes[name] = yield from frame.__await__() if isinstance(frame, Coroutine) else frame
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what a script raises is what came of the order
        outcomes[name] = error


class _NoCalls:
    """Scripts speak to PostgreSQL, not to a queue."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a script made a call of a queue ({name})")
