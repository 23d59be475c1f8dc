"""The account of what one delivery did outside, and the wrappers by which a library's calls are written into it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from job_harness.core.faults.messages import IS_REFUSED, LOSES_REPLY
from job_harness.core.sim import Option
from job_harness.core.sim.lifetime import Lifetime
from job_harness.subjects.processors.delivery import AROUND, Delivery, current
from job_harness.subjects.processors.sql_statement import Nature

_LOCAL_PORT: Final = re.compile(r"(?<=//)(localhost|127\.0\.0\.1|\[::1\]):\d+")
LONGEST_SHOWN: Final = 160
"""Characters of a body or of a statement's values that a finding shows."""


class Stands(StrEnum):
    """What became of a side effect."""

    DONE = "done"
    OPEN = "open"
    """In a transaction that is not committed."""
    GONE = "gone"
    """Rolled back, refused, or never sent."""


@dataclass(slots=True)
class ObservedEffect:
    """One thing that was done outside; `stands` is settled while the delivery goes on."""

    kind: str
    """`http`, `sql`, `file`, `mail` or `message`."""
    verb: str
    target: str
    """A URL without its query, a table, a path, recipients, a channel."""
    detail: str = ""
    """The body or the values, shortened."""
    shape: str = ""
    """The keys of a JSON body: two calls of one shape differ in their values only."""
    key: str | None = None
    """The idempotency key that was sent along."""
    nature: str = Nature.ADDS
    stands: str = Stands.DONE
    declared: bool = False
    """Whether a fake declared, by `effect`, what it made of this call."""

    @property
    def name(self) -> str:
        """What a contract's `idempotent=` calls it: `POST https://api.pay.test/charges`, `INSERT payments`."""
        return f"{self.verb} {self.target}"

    @property
    def place(self) -> str:
        """What a gate right after it is called: the same in each run, whatever port its server happens to have."""
        return _LOCAL_PORT.sub(r"\1", self.name)

    @property
    def words(self) -> str:
        """The whole call, as a finding shows it."""
        key = "" if self.key is None else f" (Idempotency-Key {self.key})"
        return f"{self.name}{key}{f' {self.detail}' if self.detail else ''}"

    def as_json(self) -> dict[str, Any]:
        """Say it for another process."""
        return asdict(self)


class Observations:
    """What one delivery did outside, in order, and which transactions of it are open."""

    def __init__(
        self, life: Lifetime, *, rest: Callable[[], None], folders: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Let `rest` come to a moment in code that cannot wait; it raises Severed where the worker died there."""
        self.folders = folders
        """Paths that are others in each session -> the names that they go by."""
        self.effects: list[ObservedEffect] = []
        self.reached_out = False
        """Whether anything was called that is watched, be it only to look."""
        self._life = life
        self._rest = rest
        self.unwaited = False
        """Whether something stands since the last moment for which a coroutine did not wait."""
        self._fresh = -1
        """How many moments there had been when something last came to stand."""
        self._sources: dict[object, Source] = {}
        self.numbered: dict[Any, ObservedEffect] = {}
        """What another process reported, by the number under which it says later how that was answered."""

    def add(self, effect: ObservedEffect) -> ObservedEffect:
        """Write one down."""
        self.effects.append(effect)
        return effect

    def source(self, key: object, make: Callable[[], Source]) -> Source:
        """Return what settles the effects of a connection or of a file, made once for each."""
        if key not in self._sources:
            self._sources[key] = make()
        return self._sources[key]

    def find_what_stands(self) -> None:
        """Find out what stands by now; what came to stand just now asks for a moment."""
        for source in self._sources.values():
            if source.find_what_stands():
                self.came_to_stand()
                self.unwaited |= source.blocks

    def came_to_stand(self) -> None:
        """Hear that something stands as of now."""
        self._fresh = self._life.moments

    def before(self) -> None:
        """Come to a moment where something stands since the last one: a worker may die between two deeds."""
        self.find_what_stands()
        if self._fresh == self._life.moments:
            self._rest()

    def after(self) -> None:
        """Come to a moment: what was asked for is done, and nothing is known of it here yet."""
        self._rest()

    def die(self) -> None:
        """Give up what was open, as the death of its process does; what a server was asked for, it still does."""
        for source in list(self._sources.values()):
            source.hear_out(self)
        self.find_what_stands()
        for source in self._sources.values():
            source.give_up()
        for effect in self.effects:
            if effect.stands == Stands.OPEN:
                effect.stands = Stands.GONE

    @property
    def place(self) -> str:
        """Name the gate that comes now: by the last deed that stands, and not by what was only looked at since."""
        stand = [effect for effect in self.effects if effect.stands == Stands.DONE and effect.nature != Nature.LOOKS]
        last = (stand or self.effects)[-1]
        if last.kind == "file" and self.left.get(last.target) == 0:
            return f"opening {last.target}"
        return last.place

    @property
    def open(self) -> bool:
        """Whether a transaction is open that holds something back."""
        self.find_what_stands()
        held = any(source.holds for source in self._sources.values())
        return held or any(effect.stands == Stands.OPEN for effect in self.effects)

    @property
    def left(self) -> dict[str, int]:
        """How many bytes each file has by now that was written."""
        written = (source.written for source in self._sources.values())
        return dict(each for each in written if each is not None)

    @property
    def unanswered(self) -> list[Any]:
        """What servers of databases were asked for and have not answered yet."""
        return [source.asked for source in list(self._sources.values()) if source.asked is not None]

    def abort(self) -> None:
        """Cut the connections with an open transaction, as a server does once it misses their other end."""
        for source in list(self._sources.values()):
            source.abort()


@contextlib.contextmanager
def unobserved() -> Iterator[None]:
    """Do what is the harness's own doing."""
    token = AROUND.set(_NOBODY)
    try:
        yield
    finally:
        AROUND.reset(token)


_NOBODY: Final = ObservedEffect("", "", "")


class Source:
    """Where effects come from that are settled later: a connection, a file."""

    asked: Any = None
    """The statement that runs there now."""
    blocks = False
    """Whether a coroutine stands still for it, and does not wait."""
    holds = False
    """Whether a transaction is open there, on whose locks others may wait."""
    written: tuple[str, int] | None = None
    """The file that is written there, as it is called, and how many bytes it has by now."""

    def hear_out(self, observed: Observations) -> None:
        """Learn what a server still did, where it was asked and its answer has not been heard."""

    def abort(self) -> None:
        """Cut it off where it holds something."""

    def find_what_stands(self) -> bool:
        """Find out what stands; say whether something came to stand just now."""
        return False

    def give_up(self) -> None:
        """Do what the death of the process does."""


def observing() -> Observations | None:
    """Return the account to write in, where this code belongs to a delivery that has one and is in no observed call.

    Raises Severed where its worker is dead: then nothing happens any more.
    """
    delivery = current()
    observed = account_of(delivery)
    if observed is not None and delivery is not None:
        observed.reached_out = True
        if delivery.life.over:
            delivery.life.end_code()
    return observed


def account_of(delivery: Delivery | None) -> Observations | None:
    if delivery is None or AROUND.get() is not None:
        return None
    observed: Observations | None = delivery.observed
    return observed


class CallErrors(NamedTuple):
    """What a library raises where a call fails, each made of the arguments of that call."""

    refused: Callable[..., BaseException]
    """No connection was made: nothing was sent."""
    unanswered: Callable[..., BaseException] | None
    """It was sent, and no reply came. None: its reply is no part of this call."""


def failing(
    delivery: Delivery | None, place: str, nature: str, options: Sequence[Option] = (LOSES_REPLY, IS_REFUSED)
) -> Option | None:
    """Ask which of these goes wrong with a call. Where it only looks, a lost reply is no other thing than no call."""
    wrong = tuple(each for each in options if each != LOSES_REPLY or nature != Nature.LOOKS)
    return delivery.fail(place, wrong) if delivery is not None and wrong and nature != Nature.TELLS else None


def _begin(
    effects: Sequence[ObservedEffect], errors: CallErrors | None, *arguments: Any, **options: Any
) -> Callable[..., BaseException] | None:
    """Raise what a call raises that is refused; return what it raises when it is over, if its reply is lost."""
    if errors is None:
        return None
    about, possible = effects[0], (*((LOSES_REPLY,) if errors.unanswered else ()), IS_REFUSED)
    fails = failing(current(), about.place, about.nature, possible)
    if fails == IS_REFUSED:
        for effect in effects:
            effect.stands = Stands.GONE
        raise errors.refused(*arguments, **options)
    return errors.unanswered if fails == LOSES_REPLY else None


Describe = Callable[..., "ObservedEffect | Sequence[ObservedEffect] | None"]
"""Takes the arguments of a call; None, or an empty list, where it is none of ours."""


def _described(
    describe: Describe, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Observations | None, Sequence[ObservedEffect]]:
    observed = observing()
    found = None if observed is None else describe(*arguments, **options)
    return observed, [found] if isinstance(found, ObservedEffect) else found or ()


def watched_call(
    real: Callable[..., Any],
    describe: Describe,
    settle: Callable[[ObservedEffect, Any], None],
    errors: CallErrors | None = None,
) -> Any:
    """Wrap a plain call, which may fail by these errors."""

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        observed, effects = _described(describe, arguments, options)
        if observed is None or not effects:
            return real(*arguments, **options)
        observed.before()
        observed.effects.extend(effects)
        lost = _begin(effects, errors, *arguments, **options)
        with inside(*effects):
            answer = real(*arguments, **options)
        for effect in effects:
            settle(effect, answer)
        observed.after()
        if lost is not None:
            raise lost(*arguments, **options)
        return answer

    return mark(call)


def watched_coroutine(
    real: Callable[..., Awaitable[Any]],
    describe: Describe,
    settle: Callable[[ObservedEffect, Any], None],
    errors: CallErrors | None = None,
) -> Any:
    """Wrap a coroutine function, whose call may fail by these errors."""

    @functools.wraps(real)
    async def call(*arguments: Any, **options: Any) -> Any:
        observed, effects = _described(describe, arguments, options)
        if observed is None or not effects:
            return await real(*arguments, **options)
        observed.before()
        observed.effects.extend(effects)
        lost = _begin(effects, errors, *arguments, **options)
        with inside(*effects):
            answer = await real(*arguments, **options)
        for effect in effects:
            settle(effect, answer)
        await asyncio.sleep(0)  # A moment: the reply is there.
        if lost is not None:
            raise lost(*arguments, **options)
        return answer

    return mark(call)


@contextlib.contextmanager
def inside(*effects: ObservedEffect) -> Iterator[None]:
    token = AROUND.set(effects[0])
    try:
        yield
    except Exception as error:
        if _never_happened(error):
            for effect in effects:
                effect.stands = Stands.GONE
        raise
    finally:
        with contextlib.suppress(ValueError):  # Closed in another context, after its worker's death.
            AROUND.reset(token)


_NOT_SENT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "ClientConnectorError", "NewConnectionError", "ConnectionRefusedError"}
    | {"WatchError", "ExecAbortError"}
)
"""What httpx, aiohttp, urllib3 (requests: ConnectTimeout) and sockets raise where no connection was made, and redis
where a transaction was not begun."""


def _never_happened(error: BaseException) -> bool:
    """Whether a call that raised this never reached the other side."""
    return any(kind.__name__ in _NOT_SENT for kind in type(error).__mro__)


def mark(call: Any) -> Any:
    call._observes_effects = True
    return call


def replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    real = getattr(owner, name, None)
    if real is not None and not getattr(real, "_observes_effects", False):
        setattr(owner, name, wrap(real))


def ignore_answer(effect: ObservedEffect, answer: Any) -> None:
    """Leave an effect as it is, whatever was answered."""


def as_text(body: Any) -> str:
    """Read what was sent as text."""
    return body.decode("utf-8", "replace") if isinstance(body, bytes | bytearray) else "" if body is None else str(body)


def shortened(text: str) -> str:
    """Put it on one line; of a long one show the beginning, and a digest that tells it from others."""
    line = " ".join(text.split())
    if len(line) <= LONGEST_SHOWN:
        return line
    return f"{line[:LONGEST_SHOWN]}... (sha256 {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]})"
