"""One delivery of a job as its processor's own code sees it: side effects that it declares, and points that it names.

Call `effect` in the fake that stands for the outside world (a payment service, a mailer), not in the processor itself.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from job_harness.core.history.event import SideEffect
from job_harness.core.model.job import Json
from job_harness.core.model.json_value import json_problem
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, Severed
from job_harness.errors import UsageError

RESERVED = frozenset({"started", "ended", "claimed", "point"})
"""What a history says of every processor; no side effect may be called so."""

Record = Callable[[str, Any], None]
AROUND: contextvars.ContextVar[Any] = contextvars.ContextVar("around", default=None)
"""The observed call in which this code runs, such as a request that a fake answers; None in most code."""


class Delivery:
    """A processor at work on one attempt."""

    __slots__ = ("_at_point", "_record", "job", "life", "observed")

    def __init__(
        self, job: str, *, life: Lifetime, record: Record, at_point: Callable[[str], None] = lambda name: None
    ) -> None:
        """Hand what is declared to `record`, and tell `at_point` each point passed; it may end the worker there."""
        self.job = job
        self.life = life
        self.observed: Any = None
        """The `Observations` of what is done without being declared; None where only declarations count."""
        life.about = self
        self._record = record
        self._at_point = at_point

    def say(self, name: str, data: Any) -> None:
        """Write down a fact about this delivery, unless its worker is dead."""
        if not self.life.over:
            self._record(name, data)

    def declare(self, done: SideEffect) -> None:
        """Write down a side effect. Raises Severed where the worker is dead, before it or right after it."""
        self._survive()
        self._record(done.kind, done)
        if (around := AROUND.get()) is not None:
            around.declared = True
        self.pass_point(done.kind)

    def pass_point(self, name: str) -> None:
        """Pass a point: a moment at which the worker may die. Raises Severed where it does: no line after it runs."""
        self._at_point(name)
        self.life.moment()
        self._survive()

    def _survive(self) -> None:
        if self.life.over:
            raise Severed(f"{self.life.name} is dead")


def effect(done: str | SideEffect, /, **data: Json) -> None:
    """Declare a side effect of the running job, such as `effect("charged", order=7)`. It is an event of the history.

    A `SideEffect` also says what identifies it, and whether its receiver ignores a repetition:
    `effect(SideEffect("charged", "order-7", idempotent=True))`. In a test without a harness, and outside of any job, it
    does nothing. Raises UsageError for a name that is taken, and for data that is not JSON.
    """
    said = done if isinstance(done, SideEffect) else SideEffect(done, data=data)
    problem = json_problem(said.data) or json_problem(said.reply)
    if said.kind in RESERVED or not said.kind or problem is not None:
        why = (
            f"its data is not JSON: {problem}"
            if problem
            else f"{said.kind!r} is what every history says of a processor"
        )
        raise UsageError(f"effect({said.kind!r}): {why}", hint='Write effect("charged", order=7).')
    if data and said is done:
        raise UsageError(f"effect({said.kind!r}): data is given twice", hint="Put it into the SideEffect, as its data.")
    delivery = current()
    if delivery is not None:
        delivery.declare(said)


async def step(name: str) -> None:
    """Name a point at which others may act and a worker may die. Outside of any job it does nothing."""
    delivery = current()
    if delivery is not None:
        delivery.pass_point(name)
        await asyncio.sleep(0)


def current() -> Delivery | None:
    """Return the delivery to which the calling code belongs."""
    return delivery_of(LIFETIME.get())


def delivery_of(life: Lifetime | None) -> Delivery | None:
    """Return the delivery within which a lifetime is."""
    while life is not None:
        if isinstance(life.about, Delivery):
            return life.about
        life = life.parent
    return None
