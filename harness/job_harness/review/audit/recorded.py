"""A history that this program wrote as evidence: what a run left behind is judged again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from job_harness.core.history import Call, Event, Observed, Phase, Return
from job_harness.core.history.jsonl import FORMAT, load_history
from job_harness.core.invariants import ANOMALIES, CATALOGUE, Monitor
from job_harness.core.model import JobId
from job_harness.core.port import ALL_SHOWN
from job_harness.review.audit.evidence import Evidence

_BY_SETTINGS: Final = frozenset(
    {"not_before", "lease_outlives_execution", "concurrency_limit", "rate_limit", "cron_exactly_once"}
    | {
        "retention_spares_live",
        "shutdown_leaves_nothing_claimed",
        "expiry_is_total",
        "store_clock_decides",
        "no_livelock",
        "priority_order",
    }
    | {"work_conserving", "no_lost_update", "tables_agree", "completed_before_started", "success_discarded"}
)
"""What can be judged only under the settings of the run, which a history does not hold."""
_BY_REQUESTS: Final = frozenset(
    {"options_honoured", "own_lease_kept", "enqueue_iff_commit", "dead_letters_complete", "unique_key_stuck"}
    | {"bystander_harmed", "job_vanished"}
)
"""What can be judged only by what was asked for, of which a history keeps the words alone."""
_BY_CLAIMS: Final = frozenset({"token_reused", "claim_over_limit", "unserved_tool"})
"""What can be judged only by what claims gave, which is not read from a history: some engines have no tokens."""
_WHY: Final[Mapping[str, str]] = {
    **dict.fromkeys(_BY_SETTINGS, "it needs the settings of the run, which a history does not hold"),
    **dict.fromkeys(_BY_REQUESTS, "it needs the requests, of which a history keeps only the words"),
    **dict.fromkeys(_BY_CLAIMS, "it needs what claims returned, which is not read from a history"),
}
_OF_VERBS: Final = frozenset(
    {"illegal_transition", "attempt_not_counted", "attempts_changed", "batch_poisoned"}
    | {
        "stale_heartbeat",
        "stale_release",
        "outcome_lost",
        "success_without_run",
        "wrong_result",
        "completed_with_error",
    }
)
_OWN_STEPS: Final = "it judges the verbs of a queue, but an application has its own steps"
_REQUESTS: Final = ("enqueue", "send")
"""What a queue, and a system, call the request that sends a job."""
_WINDOW: Final = "unique_for="
"""How the words of a request begin to say that its key is held for a while."""


def is_history(first_line: bytes) -> bool:
    """Say whether a file with this first line is a history."""
    return f'"{FORMAT}"'.encode() in first_line


def recorded_evidence(path: Path) -> Evidence:
    """Return what a history shows. Raises UsageError with the line for what is none."""
    history = load_history(path.read_text(encoding="utf-8").splitlines())

    events = [told for event in history if (told := _as_evidence(event)) is not None]

    def read(jobs: Collection[JobId] | None) -> Iterator[Event]:
        return (event for event in events if jobs is None or getattr(event, "job", None) in jobs)

    last = history.events[-1].at if history.events else 0
    steps = any(type(event) is Observed and " " in event.verb for event in history)
    rests = any(type(event) is Phase and event.name == "judge" for event in history)
    silent = _silent(steps=steps, rests=rests)
    shows = frozenset(name for name, (item, _) in ANOMALIES.items() if silent.keys().isdisjoint({name, item.id}))
    asked = (str(event.arguments) for event in history if type(event) is Call and event.verb == "enqueue")
    notes = ["unique keys that are held for a while (`unique_for`) are judged only until their job has ended"]
    windows = "unique_key_shared" in shows and any(_WINDOW in words for words in asked)
    return Evidence(
        name=f"the history {path.name}",
        shows=shows,
        silent=silent,
        read=read,
        now=lambda: last,
        notes=notes if windows else [],
        steps=steps,
        rests=rests,
    )


def _silent(*, steps: bool, rests: bool) -> dict[str, str]:
    """Say of each invariant that a history does not show, and of each anomaly of another, why."""
    silent = dict(_WHY)
    for item in CATALOGUE:
        if steps and (item.stepwise is None or item.evidence.missing(ALL_SHOWN, item.id)):
            silent[item.id] = _OWN_STEPS
        elif not steps and item.make is Monitor:
            silent[item.id] = "it judges the steps of an application, and a queue has verbs"
        elif not rests and item.id == "no_lost_job":
            silent[item.id] = "the run did not come to rest, so unfinished jobs may still end"
    silent |= dict.fromkeys(_OF_VERBS if steps else (), _OWN_STEPS)
    for item in CATALOGUE:
        names = [kind.name for kind in item.anomalies]
        if item.id not in silent and silent.keys() >= set(names):
            silent[item.id] = silent[names[0]]
        for name in names if item.id in silent else ():
            silent.pop(name, None)
    return silent


def _as_evidence(event: Event) -> Event | None:
    """Return an event without what stands in a history as words: requests, and what a claim gave."""
    if isinstance(event, Call | Return) and event.verb in _REQUESTS:
        return None
    if type(event) is Return and event.verb == "claim":
        return event._replace(outcome=event.outcome._replace(value=None))
    return event
