"""One delivery of a job as its processor's own code sees it: side effects that it declares, and points that it names.

Call `effect` in the fake that stands for the outside world (a payment service, a mailer), not in
the processor itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast

from job_harness.core.faults.messages import IS_REFUSED, LOSES_REPLY
from job_harness.core.history import RUN_EVENTS, STEP, SideEffect, StepFact
from job_harness.core.model import Json, json_problem
from job_harness.core.own_code import PACKAGE, CodeLine
from job_harness.core.sim import Option
from job_harness.core.sim.lifetime import LIFETIME, Lifetime, WatchedTask
from job_harness.core.sim.user_code import line_calling
from job_harness.errors import UsageError

RESERVED = RUN_EVENTS
"""What a history says of every processor; no side effect may be called so."""

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Record = Callable[[str, Any], None]
AROUND: contextvars.ContextVar[Any] = contextvars.ContextVar("around", default=None)
"""The observed call in which this code runs, such as a request that a fake answers; None in most code."""
EXTERNALS: Final[dict[str, CodeLine | None]] = {}
"""By name, where an `external` was declared last in this process, unless a test looked whether it was called since."""


class Delivery:
    """A processor at work on one attempt."""

    __slots__ = (
        "_at_point",
        "_record",
        "acted",
        "ended",
        "fail",
        "job",
        "lasts",
        "life",
        "line",
        "observed",
        "pick",
        "stood",
        "task",
    )

    def __init__(
        self, job: str, *, life: Lifetime, record: Record, at_point: Callable[[str], None] = lambda name: None
    ) -> None:
        """Hand what is declared to `record`, and tell `at_point` each point passed; it may end the worker there."""
        self.job = job
        self.life = life
        self.observed: Any = None
        """The `Observations` of what is done without being declared; None where only declarations count."""
        self.line: CodeLine | None = None
        """The user's own line that is at work, where the harness cannot see it: in a process of another language."""
        self.stood: CodeLine | None = None
        """The user's own line that stood last at a gate."""
        self.task: asyncio.Task[Any] | None = None
        """The task in which its processor runs; None where that is a plain function."""
        self.ended = False
        """Whether its processor has answered, or raised."""
        self.lasts = False
        """Whether it is no job but what a process did when it started: what goes on in it lives as long as that."""
        self.acted: dict[WatchedTask, None] = {}
        """The tasks, beside the processor's own, that have declared a side effect."""
        self.pick: Callable[[str, Sequence[str]], str] = lambda label, options: options[0]
        """Chooses one of several answers from outside; the first where nothing is searched."""
        self.fail: Callable[[str, Sequence[Option]], Option | None] = lambda place, options: None
        """Says which of these happens to a call of something outside; none where nothing is searched."""
        life.about = self
        self._record = record
        self._at_point = at_point

    def end(self) -> None:
        """Take note that its processor is through: what that has left running is left behind from here on."""
        self.ended = True

    def say(self, name: str, data: Any) -> None:
        """Write down a fact about this delivery, unless its worker is dead."""
        if name == "ended":
            self.end()
        if not self.life.over:
            self._record(name, data)

    def declare(self, done: SideEffect) -> None:
        """Write down a side effect. Raises Severed where the worker is dead, before it or right after it."""
        if self.observed is not None and AROUND.get() is None and not self.life.over:
            self.observed.before()  # What a commit made last may be all that its worker lived to do.
        self.write(done)
        if asyncio._get_running_loop() is not None and isinstance(task := asyncio.current_task(), WatchedTask):
            self.acted[task] = None
        if (around := AROUND.get()) is not None:
            around.declared = True
        self.pass_point(done.kind)

    def write(self, done: SideEffect) -> None:
        """Write down a side effect, and pass no point. Raises Severed where the worker is dead."""
        self._survive()
        self._record(done.kind, done)

    def pass_point(self, name: str) -> None:
        """Pass a point: a moment at which the worker may die. Raises Severed where it does: no line after it runs."""
        self._at_point(name)
        self.life.moment()
        self._survive()

    def _survive(self) -> None:
        if self.life.over:
            self.life.end_code()


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


def external(
    name: str, fake: Callable[Given, Answer], *, data: Callable[Given, Mapping[str, Json]] | None = None
) -> Callable[Given, Answer]:
    """Wrap a fake of something outside: each call is a side effect, and a gate stands before it and after its answer.

    What the caller has noted before the call stays if it dies there. The effect's data are the
    arguments that JSON can hold, by the names of the fake's parameters, or what `data` makes of
    them. The fake itself declares no effect. In an explored test a call may be refused
    (ConnectionRefusedError), or its reply be lost (TimeoutError).
    """
    EXTERNALS[name] = line_calling(sys._getframe(1), folder=PACKAGE)

    def declare(*args: Given.args, **kwargs: Given.kwargs) -> None:
        bound = inspect.signature(fake).bind(*args, **kwargs).arguments
        told = data(*args, **kwargs) if data else {key: each for key, each in bound.items() if not json_problem(each)}
        effect(SideEffect(name, data=told))

    @wraps(fake)
    async def awaited(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        await step(f"call of {name}()")
        with _reached(name):
            answer = await cast(Any, fake(*args, **kwargs))
            declare(*args, **kwargs)
            await step(f"reply of {name}()")
        return answer

    @wraps(fake)
    def called(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        _rest(f"call of {name}()")
        with _reached(name):
            answer = fake(*args, **kwargs)
            declare(*args, **kwargs)
            _rest(f"reply of {name}()")
        return answer

    return cast(Callable[Given, Answer], awaited) if inspect.iscoroutinefunction(fake) else called


def look_at_externals(name: str | None) -> None:
    """Take note that a test looks whether what goes by this name happened, or at all that did."""
    for each in [*EXTERNALS] if name is None else [name]:
        EXTERNALS.pop(each, None)


@contextlib.contextmanager
def _reached(name: str) -> Iterator[None]:
    """Let a fake be called inside the block, unless it is refused; afterwards its reply may be lost."""
    delivery = current()
    fails = None if delivery is None else delivery.fail(f"{name}()", (LOSES_REPLY, IS_REFUSED))
    if fails == IS_REFUSED:
        raise ConnectionRefusedError(f"{name}(): the connection was refused")
    yield
    if fails == LOSES_REPLY:
        raise TimeoutError(f"{name}(): no reply came")


def _rest(name: str) -> None:
    """Pass a point in a plain function; a thread that was paused there stands still at once."""
    if (delivery := current()) is not None:
        delivery.pass_point(name)
        if delivery.life.still and delivery.life.machine is not None:
            delivery.life.machine.sleep(0)


def choose(about: str, *options: str) -> str:
    """Return one of several answers from outside, such as a model's: the first, unless a search tries others.

    Each is a choice of the run: it is on its tape, and shrunk like a fault. Raises UsageError
    without options.
    """
    if not options:
        raise UsageError(
            f"choose({about!r}) has nothing to choose from", hint='Write choose("the model", "calls", "refuses").'
        )
    delivery = current()
    return options[0] if delivery is None else delivery.pick(f"{about} {delivery.job}", options)


async def step(name: str) -> None:
    """Name a point at which others may act and a worker may die. Outside of any job it does nothing."""
    delivery = current()
    if delivery is not None:
        delivery.pass_point(name)
        await asyncio.sleep(0)


class Steps:
    """One run of a workflow: what a durable engine of yours stores of it, declared for the invariants about steps.

    Outside of any job it does nothing. `step` is a name that the run has once; a step that it takes
    several times has a `number` too, which also tells a resumed run that takes another step there.
    """

    def __init__(self, run: str) -> None:
        """Name the run as its engine does: it is the same one in every life."""
        self._run = run

    def begin(self, step: str, *, number: int | None = None) -> None:
        """Say that the code of a step begins."""
        self._declare(StepFact.BEGINS, step, number)

    def finish(self, step: str, *, number: int | None = None) -> None:
        """Say that the code of a step has ended well."""
        self._declare(StepFact.FINISHES, step, number)

    def record(self, step: str, *, number: int | None = None) -> None:
        """Say that a step is stored as done: once that is committed, and where it is read back."""
        self._declare(StepFact.RECORDS, step, number)

    def compensate(self, step: str) -> None:
        """Say that what a step did was taken back."""
        self._declare(StepFact.COMPENSATES, step, None)

    def take(self, signal: str) -> None:
        """Say that a signal, an approval or a timer is taken."""
        self._declare(StepFact.TAKES, signal, None)

    def _declare(self, did: StepFact, step: str, number: int | None) -> None:
        if (delivery := current()) is not None:
            about = {"run": self._run, "step": step, "did": did.value}
            delivery.say(STEP, about if number is None else {**about, "number": number})
            delivery.pass_point(f"{step} {did.value}")


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
