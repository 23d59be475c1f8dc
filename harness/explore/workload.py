"""The generic workload: one for all targets, no script for any bug. Everything is drawn relative to the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.faults import FaultPlan, kinds
from harness.model.duration import SECOND, Duration
from harness.model.settings import Settings
from harness.port import Capabilities
from harness.scenario.job_plan import Ending, JobPlan, Payload, Span
from harness.scenario.scenario import RESTART_AFTER, Scenario
from harness.sim.choices import Choices

WORKERS = ("w1", "w2", "w3")
JOBS = ("a", "b", "c")

ENDINGS: dict[str, tuple[Ending, ...]] = {
    "succeeds": (Ending.SUCCEED,),
    "fails once": (Ending.FAIL, Ending.SUCCEED),
    "fails": (Ending.FAIL,),
    "fails finally": (Ending.FAIL_FINALLY,),
    "raises NUL": (Ending.RAISE_NUL,),
    "raises surrogate": (Ending.RAISE_SURROGATE,),
    "returns NaN": (Ending.RETURN_NAN,),
    "returns NUL once": (Ending.RETURN_NUL, Ending.SUCCEED),
    "hangs once": (Ending.HANG, Ending.SUCCEED),
    "kills its worker": (Ending.EXIT,),
}
MORE_ENDINGS: dict[str, tuple[Ending, ...]] = {"fails twice": (Ending.FAIL, Ending.FAIL, Ending.SUCCEED)}
"""Drawn too where all jobs have the same attempts, which no draw changes there."""
SPANS = {
    "1s": Span(fixed=SECOND),
    "0.1x timeout": Span(factor=0.1, setting="job_timeout"),
    "0.95x timeout": Span(factor=0.95, setting="job_timeout"),
    "1x timeout": Span(factor=1.0, setting="job_timeout"),
    "1.05x timeout": Span(factor=1.05, setting="job_timeout"),
    "0.95x lease": Span(factor=0.95, setting="lease"),
    "1x lease": Span(factor=1.0, setting="lease"),
    "2x lease": Span(factor=2.0, setting="lease"),
}
BYSTANDER = JobPlan("z", takes=(SPANS["1s"], SPANS["0.95x timeout"]))
"""A second attempt is long: a worker that lost it to a lease that ran out finds it in other hands."""
DELAYS = {"none": None, "1s": Span(fixed=SECOND), "1x timeout": SPANS["1x timeout"], "1x lease": SPANS["1x lease"]}
SERIAL_KEYS = {"s": "s", "none": None, "odd": "s' -- \\u0000 \U0001f4a5", "NUL": "s\x00"}
TOOLS = ("tool", "tool", "other")
RARELY = ("no", "no", "no", "no", "yes")
OFTEN = ("no", "yes")
FEW = 3
"""A queue with so few features has each of them often, but for other tools."""
FEW_OR_MANY = ("as set", "as set", "as set", "40")
"""Attempts of a job that always fails: a wait that doubles each time passes every bound before the fortieth."""
LIMITS = ("none", "none", "none", "none", "none", "none", "of a tool", "of all")
FEATURES = {
    "serial keys": "serial_keys",
    "dead letters": "dead_letters",
    "transactions": "transactions",
    "schedules": "schedules",
    "tools": "fencing",
    "payloads": "inputs",
}
"""What only some runs have, each by itself, and the capability that it takes: most runs stay small."""


Pick: TypeAlias = Callable[[str, Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A workload: what is at work, and which faults it may meet."""

    scenario: Scenario
    faults: FaultPlan


def draw(choices: Choices, settings: Settings, capabilities: Capabilities, *, lease: Duration | None = None) -> Drawn:
    """Draw a workload under the caller's settings, as far as the queue can do it.

    `lease` is what the queue makes of the lease, where that is something else than the settings say.
    """
    lease = settings.lease if lease is None else lease
    settings = _draw_settings(choices, settings, capabilities, lease=lease)
    count = int(choices.pick("jobs", ("1", "2", "3")))
    features = _draw_features(choices, capabilities)
    scenario = Scenario(
        title="drawn from the generic workload",
        settings=settings,
        workers=WORKERS[: int(choices.pick("workers", ("2", "1", "3")))],
        jobs=(
            *(_draw_job(choices, name, settings, capabilities, features) for name in JOBS[:count]),
            *((_draw_scheduled(choices, settings, capabilities),) if "schedules" in features else ()),
            BYSTANDER,
        ),
        restart_after=RESTART_AFTER,
    )
    return Drawn(scenario, _draw_faults(choices, capabilities))


def _draw_settings(choices: Choices, settings: Settings, capabilities: Capabilities, *, lease: Duration) -> Settings:
    attempts = choices.pick("max attempts", ("as set", "1", "2"))
    if attempts != "as set":
        settings = settings.changed(max_attempts=int(attempts))
    held_for_a_batch = capabilities.heartbeat or lease > 3 * settings.job_timeout
    if held_for_a_batch and settings.batch_size == 1 and choices.pick("batch", ("1", "2")) == "2":
        settings = settings.changed(batch_size=2)
        if capabilities.heartbeat:
            settings = settings.changed(heartbeat_interval=settings.lease // 4)
    if capabilities.maintenance and choices.pick("retention", ("as set", "as set", "a lease")) == "a lease":
        settings = settings.changed(retention=settings.lease)
    if capabilities.concurrency_limits:
        limits = {"none": {}, "of a tool": {"tool_concurrency": 1}, "of all": {"concurrency": 1}}
        settings = settings.changed(**limits[choices.pick("limit", LIMITS)])
    if choices.pick("retry delay", ("as set", "as set", "near its cap")) == "near its cap":
        settings = settings.changed(retry_delay=max(settings.retry_delay, settings.retry_delay_max * 3 // 4))
    return settings


def _draw_features(choices: Choices, capabilities: Capabilities) -> frozenset[str]:
    able = [name for name, capability in FEATURES.items() if getattr(capabilities, capability)]
    odds = dict.fromkeys(able, RARELY if len(able) > FEW else OFTEN) | {"tools": RARELY}
    return frozenset(name for name in able if choices.pick(f"{name}?", odds[name]) == "yes")


def _draw_job(
    choices: Choices, name: str, settings: Settings, capabilities: Capabilities, features: frozenset[str]
) -> JobPlan:
    def pick(what: str, options: Sequence[str]) -> str:
        return choices.pick(f"{what} of {name}", options)

    def delay(what: str, wanted: bool) -> int | None:
        span = DELAYS[pick(what, tuple(DELAYS))] if wanted and pick(f"{what}?", ("no", "no", "yes")) == "yes" else None
        return None if span is None else span.resolve(settings)

    ending = pick("ending", endings_for(capabilities))
    attempts = pick("attempts", FEW_OR_MANY) if ending == "fails" and capabilities.own_attempts else "as set"
    operated = pick("operator", ("none", "none", "cancels", "cancels and retries", "retries"))
    return JobPlan(
        name,
        outcomes=(ENDINGS | MORE_ENDINGS)[ending],
        takes=(SPANS[pick("duration", tuple(SPANS))],),
        max_attempts=None if attempts == "as set" else int(attempts),
        at=delay("send time", True) or 0,
        start_after=delay("start time", capabilities.start_after),
        priority=int(pick("priority", ("0", "5", "-5"))) if capabilities.priorities else 0,
        unique_key="k" if capabilities.unique and pick("key", ("none", "none", "k")) == "k" else None,
        **_draw_featured(pick, settings, features),
        cancel_after=_draw_span(pick, "cancel", settings) if capabilities.cancel and "cancels" in operated else None,
        retry_after=_draw_span(pick, "retry", settings) if capabilities.retry and "retries" in operated else None,
    )


def endings_for(capabilities: Capabilities) -> tuple[str, ...]:
    """List the endings that a queue can record."""
    more = () if capabilities.own_attempts else tuple(MORE_ENDINGS)
    return tuple(name for name in (*ENDINGS, *more) if capabilities.final_errors or name != "fails finally")


def _draw_featured(pick: Pick, settings: Settings, features: frozenset[str]) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    if "tools" in features:
        drawn["tool"] = pick("tool", TOOLS)
    if "serial keys" in features:
        drawn["serial_key"] = SERIAL_KEYS[pick("serial key", ("s", "s", "s", "none", "odd", "NUL"))]
    if "dead letters" in features and pick("dead letter", ("dead", "none")) == "dead":
        drawn.update(dead_letter="dead", input={"of": "a dead letter"})
    if "payloads" in features and (payload := pick("payload", ("none", *Payload))) != "none":
        drawn["payload"] = Payload(payload)
    if "transactions" in features and (ends := pick("transaction", ("none", "commit", "rollback"))) != "none":
        drawn.update(transaction=ends, open_for=_draw_span(pick, "transaction's time", settings))
    return drawn


def _draw_scheduled(choices: Choices, settings: Settings, capabilities: Capabilities) -> JobPlan:
    def pick(what: str, options: Sequence[str]) -> str:
        return choices.pick(f"{what} of the schedule", options)

    periods = {"a cron": settings.cron_period, "two ticks": 2 * settings.tick_interval, "a lease": settings.lease}
    return JobPlan(
        "cron",
        outcomes=ENDINGS[pick("ending", ("succeeds", "fails once", "fails finally", "kills its worker"))],
        at={"0s": 0, "1s": SECOND, "a period": settings.cron_period}[pick("time", ("0s", "1s", "a period"))],
        priority=int(pick("priority", ("0", "5"))) if capabilities.priorities else 0,
        max_attempts=int(pick("attempts", ("1", "2"))),
        every=periods[pick("period", tuple(periods))],
        count=int(pick("slots", ("2", "2", "3"))),
        scheduled=True,
    )


def _draw_span(pick: Pick, what: str, settings: Settings) -> int:
    spans = {"1s": Span(fixed=SECOND), "0s": Span(), **SPANS}
    return spans[pick(what, tuple(spans))].resolve(settings)


def _draw_faults(choices: Choices, capabilities: Capabilities) -> FaultPlan:
    if choices.pick("faults", ("some", "some", "some", "none")) == "none":
        return FaultPlan()
    able = [kind for kind in kinds().values() if not capabilities.missing(kind.needs)]
    return FaultPlan(**{kind.id: int(choices.pick(f"faults: {kind.id}", kind.weight)) for kind in able})
