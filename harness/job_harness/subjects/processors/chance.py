"""Chance that is the same in every run of an explored test, and the same when it is replayed.

What the machine draws (`os.urandom`, and with it `uuid.uuid4`, `secrets`, generators that are made
without a seed) is answered for processors and for the test's own code: libraries get the machine's.
The generators that a process shares (`random`, numpy's) have one state for a test with its
fixtures, so that a seed of a fixture's own counts; CPython seeds `random` anew in a forked child,
which is therefore given the state of its parent. Knows no test and no campaign.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NamedTuple, Self

from job_harness.subjects.processors.delivery import current
from job_harness.subjects.processors.module_state import is_installed

SEED: Final = 0
THE_SAME: Final = tuple(f"randomness: {name}" for name in ("uuid.uuid4 ", "secrets.", "os.urandom ", "random."))
"""How notes begin that name what is answered here."""
_LAST_DRAWN: Final[Mapping[str, Mapping[str, int | None]]] = {
    "uuid": {"_last_timestamp": None, "_last_timestamp_v7": None, "_last_counter_v7": 0},
    "langgraph.checkpoint.base.id": {"_last_v6_timestamp": None},
    "pydantic_ai._uuid": {"_last_timestamp_v7": None, "_last_counter_v7": 0},
}
"""Of generators of ids that are to grow with the time, what they keep of the last one, and what they begin with: a run

begins at an earlier time than the last one ended, so that its ids would be others. As of Python 3.11 to 3.14, LangGraph
1.2, pydantic-ai 2.
"""


class SharedGenerators(NamedTuple):
    """The states of the generators that a process shares."""

    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> Self:
        """Read the states."""
        numpy = sys.modules.get("numpy.random")
        return cls(random.getstate(), None if numpy is None else numpy.get_state())

    def put_back(self) -> None:
        """Let them draw from here on what they drew from there on."""
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy.random"].set_state(self.numpy)


def seed_shared_generators(seed: int = SEED) -> SharedGenerators:
    """Let them draw what this seed says, and return what they were."""
    before = SharedGenerators.now()
    random.seed(seed)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed(seed)
    return before


@contextmanager
def same_chance(seed: int = SEED) -> Generator[None]:
    """Let processors and the test's own code draw the same bytes in the same order each time, libraries the machine's.

    Each test draws others: what its fixtures make under such a name is their own, also where tests run side by side.
    """
    real, real_seed, drawn = os.urandom, random.Random.seed, random.Random(seed)
    # Another seed is for what a processor draws: what the test sends stays the same.
    tests_own = random.Random(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0])

    def source() -> random.Random | None:
        return drawn if current() is not None else tests_own if _is_own(sys._getframe(2)) else None

    generator: Any = random  # SystemRandom, which `secrets` uses, has the function by a name of its own (3.11 to 3.14).

    def urandom(size: int, /) -> bytes:
        own = source()
        return real(size) if own is None else own.randbytes(size)

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and (own := source()) is not None:
            a = own.getrandbits(256)
        real_seed(self, a, version)

    last = [(vars(module), begin) for name, begin in _LAST_DRAWN.items() if (module := sys.modules.get(name))]
    kept = [(held, {name: held[name] for name in begin if name in held}) for held, begin in last]
    for held, begin in last:
        held.update((name, value) for name, value in begin.items() if name in held)
    os.urandom = generator._urandom = urandom
    random.Random.seed = seeded  # type: ignore[method-assign]  # as `random.Random()` calls it
    try:
        yield
    finally:
        for held, before in kept:
            held.update(before)
        os.urandom = generator._urandom = real
        random.Random.seed = real_seed  # type: ignore[method-assign]


_DRAWING: Final = frozenset({"random", "secrets", "uuid"})


def _is_own(frame: FrameType | None) -> bool:
    """Whether code of the project draws, by a module that is there for it."""
    while frame is not None and frame.f_globals.get("__name__") in _DRAWING:
        frame = frame.f_back
    if frame is None:
        return False
    name = str(frame.f_globals.get("__name__", ""))
    known = name.partition(".")[0] in sys.stdlib_module_names or is_installed(sys.modules.get(name))
    return name in sys.modules and not known
