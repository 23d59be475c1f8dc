"""Calls of queues, as rules ask for them: by library, by option; and how a rule about them is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from job_harness.review.check.facts import BULLMQ, UNKNOWN, Facts, Place, QueueCall
from job_harness.review.check.finding import RELEASES, Rule, Severity, Tried
from job_harness.review.check.settings import number_of

NOW: Final = (Tried(BULLMQ, RELEASES[BULLMQ][1:]),)
"""The releases of BULLMQ on which a rule is run that speaks of no older one."""


def calls_of(facts: Facts, library: str, *methods: str) -> list[QueueCall]:
    return [call for call in facts.calls if call.library == library and call.method in methods]


def weight_of(call: QueueCall, severity: Severity | None = None) -> Severity | None:
    return Severity.NOTE if call.aside else severity


def number_at(call: QueueCall, name: str) -> float | None:
    value = call.options.get(name)
    return None if value is None or isinstance(value.value, bool) else number_of(value.value)


def place_of(call: QueueCall, *names: str) -> Place:
    return next((call.options[name].place for name in names if name in call.options), call.place)


def is_set(call: QueueCall, name: str, wanted: object) -> bool:
    return name in call.options and call.options[name].value is wanted


def is_unknown(call: QueueCall, *names: str) -> bool:
    return any(name in call.options and call.options[name].value is UNKNOWN for name in names)


def rule(
    identity: str,
    severity: Severity,
    texts: Iterable[str],
    check: object,
    *,
    scenario: str,
    ran: tuple[Tried, ...] = (),
) -> Rule:
    sentence, prevents, repair = texts
    return Rule(identity, severity, sentence, prevents, repair, scenario, check, ran)  # type: ignore[arg-type]
