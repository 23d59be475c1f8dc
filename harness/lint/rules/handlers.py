"""Rules about the handlers of jobs in TypeScript, of whatever queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lint.facts import PGBOSS, Facts
from harness.lint.finding import Breach, Related, Severity, tried_on
from harness.lint.rules.calls import NOW, rule, weight_of

LEFT: Final = "handler.leaves."
"""How the options begin in which a reader notes what a handler does not wait for."""


def _left(facts: Facts) -> Iterator[Breach]:
    for call in facts.calls:
        for value in [value for name, value in call.options.items() if name.startswith(LEFT)]:
            whose = f" of {call.queue!r}" if call.queue else ""
            yield Breach(
                value.place,
                f"the handler{whose} does not wait for {value.value}: the job completes before that is done, and an "
                "error in it is no failure of the job, but ends the process",
                "Write `await Promise.all(jobs.map(...))`, or a loop with await."
                if "forEach" in str(value.value) or ".map" in str(value.value)
                else "Write await before it.",
                (Related(call.place, f"{call.method}()"),),
                weight_of(call),
                subject=f"{call.queue or ''} {value.value}",
            )


RULES: Final = (
    rule(
        "handler_promise_left",
        Severity.WARNING,
        (
            "A handler of pg-boss, BullMQ or graphile-worker waits for every async function that it calls.",
            "The job counts as completed while its work still runs: a crash loses it, and an error ends the process.",
            "Await it.",
        ),
        _left,
        scenario="crashes/every_attempt_crashes.yaml",
        ran=(*tried_on(PGBOSS), *NOW),
    ),
)
"""Rules about handlers."""
