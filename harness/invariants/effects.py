"""An invariant of the user's own over declared side effects: at most once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.history.event import Effect
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.json_value import canonical

REPEATED: Final = AnomalyKind(
    "effect_repeated", Guarantee.OWN, "A side effect that may happen at most once happened again."
)
"""What `at_most_once` reports. It is none of the queue's promises: a processor has to keep it."""


def at_most_once(name: str, *, per: Sequence[str] = ()) -> Invariant:
    """Make an invariant: a side effect happens at most once for each job, or for each value of the data in `per`.

    One that says its identity counts by that instead of its job, and one whose receiver ignores a repetition of the
    identity may come again. It counts over all deliveries: retries, crashes, duplicates and zombies.
    """

    class AtMostOnce(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._seen: dict[str, Effect] = {}

        def on_effect(self, event: Effect) -> None:
            if event.name != name or (event.idempotent and event.identity is not None):
                return
            told = ", ".join(f"{key}={canonical((event.data or {}).get(key))}" for key in per)
            if not per and event.identity is not None:
                told = event.identity
            first = self._seen.setdefault(told or event.job, event)
            if first is not event:
                what = f"{name}({told})" if told else name
                self.breach(
                    REPEATED.name,
                    f"{what} by {event.actor} in attempt {event.attempt} of {event.job}, and before that by "
                    f"{first.actor} in attempt {first.attempt} of {first.job}",
                    job=event.job,
                )

    return Invariant(
        id=f"{name}_at_most_once",
        sentence=f"The side effect {name!r} happens at most once.",
        kind=Kind.ALWAYS,
        anomalies=(REPEATED,),
        make=AtMostOnce,
    )
