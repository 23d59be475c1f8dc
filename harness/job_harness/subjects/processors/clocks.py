"""Whether the clocks that a processor reads are virtual: the words by which a test says so, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from job_harness.core.sim.guest_threads import GuestThreads
from job_harness.core.sim.loop import VirtualLoop
from job_harness.errors import UsageError, did_you_mean

VIRTUAL: Final = "virtual"
REAL: Final = "real"


def checked_clocks(clocks: object) -> str:
    """Return it where it is a word for clocks. Raises UsageError, also where gevent has replaced threads."""
    _refuse_gevent()
    if clocks in (VIRTUAL, REAL):
        return str(clocks)
    raise UsageError(
        f"clocks is {clocks!r}{did_you_mean(str(clocks), (VIRTUAL, REAL))}",
        hint='Write "virtual", and processors read virtual time, or "real", and they read the machine\'s.',
    )


def open_guests(loop: VirtualLoop, *, start: datetime, clocks: str = VIRTUAL) -> GuestThreads:
    """Return the clocks and threads of the processors on a loop whose second 0 is at `start`.

    Raises UsageError for a word that is none, and where gevent has replaced threads.
    """
    return GuestThreads(loop, start_us=round(start.timestamp() * 1_000_000), clocks=checked_clocks(clocks) == VIRTUAL)


def _refuse_gevent() -> None:
    """Raise UsageError where gevent has put its greenlets in the place of threads: control cannot be handed to one."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise UsageError(
            "gevent has replaced the threads of this process (gevent.monkey.patch_all); processors run on real ones",
            hint="Test the processor where nothing is replaced, in another pytest run or without monkey.patch_all().",
        )


@contextlib.contextmanager
def freeze_kept() -> Iterator[None]:
    """Let freezegun, where it is at work, answer every caller, whatever is further up the stack.

    It passes over callers that have `threading` within five frames above them, as the thread of a
    plain processor has: that read the frozen `datetime.now()` beside a `time.time()` that was not.
    Checked on freezegun 1.5.
    """
    api: Any = sys.modules.get("freezegun.api")
    if api is None:
        yield
        return
    inspected, api.call_stack_inspection_limit = api.call_stack_inspection_limit, 1
    try:
        yield
    finally:
        api.call_stack_inspection_limit = inspected


def bypassed() -> list[str]:
    """Name the event loop that a policy would start, and that no processor runs on here."""
    if sys.version_info >= (3, 14):  # A policy is deprecated there, and asking for it warns.
        return []
    module = type(asyncio.get_event_loop_policy()).__module__.partition(".")[0]
    return (
        [f"event loop: {module} is bypassed, coroutines run on a loop with virtual time"] if module == "uvloop" else []
    )
