"""How long one question to the system under test may take, whatever it does: no answer, or one that drips for ever.

A limit on each read of a socket is none on the whole, so the question is asked on a thread that may be left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from harness.errors import EnvironmentUnavailable

ANSWER_SECONDS: Final = 30.0
"""For one question, from its first byte to the last byte of the answer."""
ANSWER_BYTES: Final = 1_000_000
"""Of one answer; what comes after is not read."""
SHOWN: Final = 300
"""Characters of what the system says that are shown."""

Answer = TypeVar("Answer")


def within_budget(ask: Callable[[], Answer], *, what: str, seconds: float = ANSWER_SECONDS) -> Answer:
    """Return what `ask` returns, or raise what it raises.

    Raises EnvironmentUnavailable where it takes longer; `what` is what was asked.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever asked
            errors.append(error)

    asking = threading.Thread(target=run, name=f"verify: {what}", daemon=True)
    asking.start()
    asking.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise EnvironmentUnavailable(
            f"{what}: no whole answer within {seconds:g} s", hint="Look at what it does, and at its log."
        )
    return answers[0]


def shown(value: object, *, longest: int = SHOWN) -> str:
    """Return a value of the system's as one line of bounded length."""
    text = " ".join(str(value)[: 20 * longest].split())
    return text if len(text) <= longest else f"{text[:longest]}..."
