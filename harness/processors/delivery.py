"""One delivery of a job as its processor's own code sees it: side effects that it declares, and points that it names.

Call `effect` in the fake that stands for the outside world (a payment service, a mailer), not in the processor itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.errors import UsageError
from harness.model.job import Json
from harness.model.json_value import json_problem
from harness.sim.lifetime import LIFETIME, Lifetime, Severed

RESERVED = frozenset({"started", "ended", "claimed", "point"})
"""What a history says of every processor; no side effect may be called so."""

Record = Callable[[str, Any], None]


class Delivery:
    """A processor at work on one attempt."""

    __slots__ = ("_at_point", "_record", "job", "life")

    def __init__(
        self, job: str, *, life: Lifetime, record: Record, at_point: Callable[[str], None] = lambda name: None
    ) -> None:
        """Hand what is declared to `record`, and tell `at_point` each point passed; it may end the worker there."""
        self.job = job
        self.life = life
        life.about = self
        self._record = record
        self._at_point = at_point

    def say(self, name: str, data: Any) -> None:
        """Write down a fact about this delivery, unless its worker is dead."""
        if not self.life.over:
            self._record(name, data)

    def declare(self, name: str, data: dict[str, Json]) -> None:
        """Write down a side effect. Raises Severed where the worker is dead: then it did not happen."""
        if self.life.over:
            raise Severed(f"{self.life.name} is dead")
        self._record(name, data)
        self.pass_point(name)

    def pass_point(self, name: str) -> None:
        """Pass a point: a moment at which the worker may die."""
        self._at_point(name)
        self.life.moment()


def effect(name: str, /, **data: Json) -> None:
    """Declare a side effect of the job at work, such as `effect("charged", order=7)`: an event of the history.

    In a test without a harness, and outside of any job, it does nothing. Raises UsageError for a name that is taken
    and for data that JSON cannot hold.
    """
    problem = json_problem(data)
    if name in RESERVED or not name or problem is not None:
        why = f"its data is no JSON: {problem}" if problem else f"{name!r} is what every history says of a processor"
        raise UsageError(f"effect({name!r}): {why}", hint='Write effect("charged", order=7).')
    delivery = current()
    if delivery is not None:
        delivery.declare(name, data)


async def step(name: str) -> None:
    """Name a point at which others may act and a worker may die. Outside of any job it does nothing."""
    delivery = current()
    if delivery is not None:
        delivery.pass_point(name)
        await asyncio.sleep(0)


def current() -> Delivery | None:
    """Answer the delivery to which the calling code belongs."""
    return delivery_of(LIFETIME.get())


def delivery_of(life: Lifetime | None) -> Delivery | None:
    """Return the delivery within which a lifetime is."""
    while life is not None:
        if isinstance(life.about, Delivery):
            return life.about
        life = life.parent
    return None
