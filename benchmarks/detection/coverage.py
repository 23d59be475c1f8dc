"""What a run had in it: which blind spots it touched, and which capabilities met which settings.

A right queue is silent about a blind spot only as far as its runs went there; so what its runs had is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from job_harness.core.faults import kind_of
from job_harness.core.history.event import Call, Effect, Fault
from job_harness.core.invariants.maintenance import MAINTAINING
from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import needed_capabilities
from job_harness.search.wrong_queues import BlindSpot

DEFAULTS: Final = Settings()
REPORTS: Final = ("complete ", "fail ", "release ", "heartbeat ")


def _faults(run: Run) -> Iterator[Fault]:
    return (event for event in run.history.events if type(event) is Fault)


def _twice_at_once(run: Run) -> bool:
    calls = Counter((event.verb, event.at) for event in run.history.events if type(event) is Call)
    return any(count > 1 for (verb, _), count in calls.items() if verb in MAINTAINING)


def _wide(run: Run) -> bool:
    jobs = run.scenario.jobs
    wide = any(abs(job.priority) > 2**15 or len(job.unique_key or "") > 200 for job in jobs)
    return wide or "token" in run.scenario.presets or any((job.max_attempts or 0) > 127 for job in jobs)


def _by_tool(run: Run) -> bool:
    scenario = run.scenario
    tools = {job.tool for job in scenario.jobs}
    return bool(scenario.serves or scenario.pauses or scenario.settings.tool_concurrency) or len(tools) > 1


TOUCHES: Final[Mapping[BlindSpot, Callable[[Run], bool]]] = {
    BlindSpot.OUTAGES: lambda run: any(fault.name in ("outage", "lose request") for fault in _faults(run)),
    BlindSpot.ENDS: lambda run: any(holds(run.scenario.settings) for holds in ENDS.values()),
    BlindSpot.CALENDARS: lambda run: any(job.cron for job in run.scenario.jobs),
    BlindSpot.LARGE_VALUES: _wide,
    BlindSpot.LONG_QUEUES: lambda run: (
        "put_off" in run.scenario.presets or any(job.count > 100 for job in run.scenario.jobs)
    ),
    BlindSpot.OWN_TERMS: lambda run: any(
        job.lease or job.retry_delay is not None or job.unique_for for job in run.scenario.jobs
    ),
    BlindSpot.TOOLS: _by_tool,
    BlindSpot.LIVING_ON: lambda run: any(
        type(event) is Effect and event.data == "timeout" for event in run.history.events
    ),
    BlindSpot.DELIVERIES: lambda run: any(fault.name == "crash" for fault in _faults(run)),
    BlindSpot.REPEATS: _twice_at_once,
    BlindSpot.RARE_WINDOWS: lambda run: any(
        fault.name == "pause" and str(fault.data["at"]).startswith(REPORTS) for fault in _faults(run)
    ),
}
"""Whether a run of a right queue went there. What an engine documents has right queues of its own."""

ENDS: Final[Mapping[str, Callable[[Settings], bool]]] = {
    "one attempt": lambda settings: settings.max_attempts == 1,
    "10 attempts": lambda settings: settings.max_attempts >= 10,
    "batch of 2": lambda settings: settings.batch_size == 2,
    "batch of 5": lambda settings: settings.batch_size == 5,
    "heartbeats": lambda settings: settings.heartbeat_interval > 0,
    "lease kept by beats": lambda settings: settings.lease < settings.job_timeout,
    "short stuck timeout": lambda settings: settings.stuck_timeout < DEFAULTS.stuck_timeout,
    "no delay": lambda settings: settings.retry_delay == 0,
    "delay at its cap": lambda settings: settings.retry_delay >= DEFAULTS.retry_delay_max,
    "no backoff": lambda settings: not settings.retry_backoff,
    "no skew": lambda settings: settings.max_skew == 0,
    "slow expiry": lambda settings: settings.expire_interval > DEFAULTS.expire_interval,
    "slow polls": lambda settings: settings.poll_interval > DEFAULTS.poll_interval,
    "short retention": lambda settings: settings.retention < DEFAULTS.retention,
    "a limit": lambda settings: bool(settings.concurrency or settings.tool_concurrency),
}
"""Settings that differ from the defaults, as a column of the table."""
AS_SET: Final = "as set"
COLUMNS: Final = (AS_SET, *ENDS)
NEEDS_BEATS: Final = frozenset({"batch of 5", "heartbeats", "lease kept by beats"})
UNSEEN: Final = frozenset({"virtual_time", "snapshot", "fencing", "results", "takes_back_in_claim", "any_settings"})
"""Capabilities that no scenario asks for: a queue has them in all of its runs, or what has them shows as a column."""
BY_FAULT: Final = {"shutdown": "release", "deploy": "signals"}
"""Faults that need a capability."""


def touched(run: Run) -> list[str]:
    """List the blind spots that a run touched."""
    return [str(spot) for spot, touches in TOUCHES.items() if touches(run)]


def cells(run: Run) -> Iterator[str]:
    """Yield `capability, setting` for each capability that was used under each setting that was drawn."""
    settings = run.scenario.settings
    columns = [name for name, holds in ENDS.items() if holds(settings)] or [AS_SET]
    rows = {name for name in needed_capabilities(run.scenario) if name not in UNSEEN}
    kinds = {kind.id for fault in _faults(run) if (kind := kind_of(fault)) is not None}
    rows |= {BY_FAULT[kind] for kind in kinds if kind in BY_FAULT}
    if any(type(event) is Call and event.verb == "rescue" for event in run.history.events):
        rows.add("maintenance")
    for row in (*rows, *(f"fault: {kind}" for kind in kinds)):
        for column in columns:
            yield f"{row}, {column}"


def expected(capabilities: Capabilities) -> list[tuple[str, tuple[str, ...]]]:
    """List the rows that a queue of these capabilities must have, each with the settings that can be drawn beside."""
    able = [name for name in Capabilities.names() if getattr(capabilities, name) and name not in UNSEEN]
    columns = [
        name
        for name in COLUMNS
        if (capabilities.heartbeat or name not in NEEDS_BEATS)
        and (capabilities.any_settings or name not in DRAWN_AT_ENDS)
        and (capabilities.maintenance or name not in ("short retention", "short stuck timeout"))
        and (capabilities.concurrency_limits or name != "a limit")
    ]
    return [(name, tuple(column for column in columns if (name, column) not in IMPOSSIBLE)) for name in able]


DRAWN_AT_ENDS: Final = frozenset(
    {
        "10 attempts", "batch of 5", "lease kept by beats", "short stuck timeout", "no delay", "delay at its cap",
        "no backoff", "no skew", "slow expiry", "slow polls",
    }
)  # fmt: skip
"""Settings that are drawn only where a queue keeps whatever it is given."""
IMPOSSIBLE: Final = frozenset(
    {("heartbeat", AS_SET), ("concurrency_limits", AS_SET), ("own_leases", "short stuck timeout")}
)
"""Pairs of which one is the other; and maintenance has to outlast what jobs ask for."""
