"""An invariant of the user's own over declared side effects: at most once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.errors import did_you_mean
from harness.history.event import Effect
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.json_value import canonical

REPEATED: Final = AnomalyKind(
    "effect_repeated", Guarantee.OWN, "A side effect that may happen at most once happened again."
)
"""What `at_most_once` reports. It is none of the queue's promises: a processor has to keep it."""
UNKEYED: Final = AnomalyKind(
    "effect_without_key", Guarantee.OWN, "A side effect lacks the data by which a check tells one from another."
)
"""What `at_most_once` reports of data that does not have a key of `per`, instead of taking all such effects for one."""


def at_most_once(name: str, *, per: Sequence[str] = ()) -> Invariant:
    """Make an invariant: a side effect happens at most once for each job, or for each value of the data in `per`.

    One that says its identity counts by that instead of its job, and one whose receiver ignores a repetition of the
    identity may come again. It counts over all deliveries: retries, crashes, duplicates and zombies. An effect whose
    data lacks a key of `per` is a breach of its own.
    """

    class AtMostOnce(Monitor):
        def __init__(self, rules: Rules, breach: Reporter) -> None:
            super().__init__(rules, breach)
            self._seen: dict[str, Effect] = {}
            self._unkeyed = False

        def on_effect(self, event: Effect) -> None:
            if event.name != name or (event.idempotent and event.identity is not None):
                return
            data = event.data or {}
            if lacking := [key for key in per if key not in data]:
                self._refuse(event, lacking[0], list(data))
                return
            told = ", ".join(f"{key}={canonical(data[key])}" for key in per)
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

        def _refuse(self, event: Effect, key: str, known: list[str]) -> None:
            if not self._unkeyed:
                self._unkeyed = True
                near = did_you_mean(key, known) or f", only {', '.join(known) or 'no data'}"
                self.breach(UNKEYED.name, f"{name} of {event.job} has no {key!r}{near}: per={list(per)}", job=event.job)

    return Invariant(
        id=f"{name}_at_most_once",
        sentence=f"The side effect {name!r} happens at most once.",
        kind=Kind.ALWAYS,
        anomalies=(REPEATED, UNKEYED),
        make=AtMostOnce,
    )
