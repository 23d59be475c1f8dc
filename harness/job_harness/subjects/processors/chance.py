"""Chance that is the same in every run of an explored test: `os.urandom`, and with it `uuid.uuid4` and `secrets`.

The module `random` is left alone: a fork copies its state, and a fixture can seed it. Knows no test and no campaign.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from job_harness.subjects.processors.delivery import current

SEED: Final = 0
THE_SAME: Final = tuple(f"randomness: {name}" for name in ("uuid.uuid4 ", "secrets.", "os.urandom "))
"""How notes begin that name what `same_chance` answers."""


@contextmanager
def same_chance() -> Generator[None]:
    """Let processors draw the same bytes in the same order each time; all other code draws the machine's."""
    real, drawn = os.urandom, random.Random(SEED)
    generator: Any = random  # SystemRandom, which `secrets` uses, has the function by a name of its own (3.11 to 3.14).

    def urandom(size: int, /) -> bytes:
        return real(size) if current() is None else drawn.randbytes(size)

    os.urandom = generator._urandom = urandom
    try:
        yield
    finally:
        os.urandom = generator._urandom = real
