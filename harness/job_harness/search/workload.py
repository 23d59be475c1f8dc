"""The generic workload: one for all targets, no script for any bug. Everything is drawn relative to the settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from job_harness.core.faults import FaultKind, FaultPlan, kinds
from job_harness.core.model import DAY, HOUR, LONGEST, MILLISECOND, MINUTE, SECOND, Duration, Settings
from job_harness.core.model.moments import moments
from job_harness.core.port import Capabilities, Missed
from job_harness.core.scenario.job_plan import OPERATED, Ending, JobPlan, OperatorAct, Payload, Span
from job_harness.core.scenario.scenario import RESTART_AFTER, PausePlan, Scenario, without_maintenance
from job_harness.core.sim import Choices
from job_harness.errors import UsageError, did_you_mean

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
OUTSIDE_ENDINGS: dict[str, tuple[Ending, ...]] = {"has to wait once": (Ending.TOO_MANY, Ending.SUCCEED)}
"""Drawn where the work of a job is a call to another service, in the place of the end that no such call has."""
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
AROUND_WINDOWS = {
    "0.1x timeout": SPANS["0.1x timeout"],
    "0.95x timeout": SPANS["0.95x timeout"],
    "1x lease": SPANS["1x lease"],
    "2x lease": SPANS["2x lease"],
}
"""When a job is sent whose unique key the first may still hold, for a timeout or for a lease."""
SOON_ENDED = (*("1s", "0.1x timeout") * 4, *SPANS)
"""How long a job runs whose key is held beyond its end."""
SERIAL_KEYS = {"s": "s", "none": None, "odd": "s' -- \\u0000 \U0001f4a5", "NUL": "s\x00"}
TOOLS = ("tool", "tool", "other")
RARELY = ("no", "no", "no", "no", "yes")
NOW_AND_THEN = ("no",) * 7 + ("yes",)
SELDOM = ("no",) * 9 + ("yes",)
CROWDED = ("no",) * 199 + ("yes",)
HARDLY = ("no",) * 159 + ("yes",)
OFTEN = ("no", "yes")
BEATS = 2
"""Heartbeats in the time of a lease: no fewer keep it, and each more is two steps for every job that is held."""
BEATS_THAT_KEEP_IT = 3
"""Heartbeats in a lease shorter than its job may run: with two, a lost one would excuse that it is taken back."""
FEW = 3
"""A queue with so few features has each of them often, but for other tools."""
FEW_OR_MANY = ("as set",) * 7 + ("40",)
"""Attempts of a job that always fails: a wait that doubles each time passes every bound before the fortieth.

Such a run is five times as long as the others, so its attempts take a second each, and it is drawn
seldom.
"""
MANY = ("40",) * 7 + ("260",)
"""Attempts that no byte can count."""
MOST_ROUNDS = 3_000
"""Rounds of maintenance while one job is tried: three steps each, and two lives of the job fit into a run's 20 000."""
LIMITS = ("none", "none", "none", "none", "none", "none", "of a tool", "of all")
FEATURES = {
    "serial keys": "serial_keys",
    "dead letters": "dead_letters",
    "transactions": "transactions",
    "schedules": "schedules",
    "tools": "fencing",
    "payloads": "inputs",
    "own terms": "own_leases",
    "own delays": "own_delays",
    "windows": "unique_windows",
    "worker tools": "worker_tools",
    "pauses": "pausing",
    "calendars": "calendars",
    "presets": "presets",
    "wide values": "wide_values",
    "ends": "any_settings",
    "crowd": "any_settings",
    "put off": "presets",
}
"""What only some runs have, each by itself, and the capability that it takes: most runs stay small."""
EARLY_ROUNDS = "early rounds"
"""Drawn last, where the queue has rounds that take back."""
ODDS = {
    **dict.fromkeys(("own terms", "own delays", "windows", "worker tools", "pauses", "calendars", "presets"), SELDOM),
    "wide values": SELDOM,
    "ends": RARELY,
    "tools": RARELY,
    "schedules": NOW_AND_THEN,
    "crowd": CROWDED,
    "put off": HARDLY,
}
"""How often what is not as often as the others."""
WIDE_PRIORITIES = ("0", "5", "-5", "2147483647", "-2147483648", "70000")
BIG = 2**53 + 1
"""The first priority that JavaScript's numbers do not hold."""
SHARED_KEY = "k"
EDGE_KEYS = {"k": SHARED_KEY, "empty": "", "blank": "  ", "zero": "0"}
"""What stands for that key in all jobs of a run."""
WIDE_KEYS = {
    "none": None,
    "k": "k",
    "K": "K",
    "k and a blank": "k ",
    "long, 1": "k" * 299 + "1",
    "long, 2": "k" * 299 + "2",
}
SERVED = {"all": None, "tool": ("tool",), "other": ("other",), "both": ("other", "tool")}
COUNTERS = {"at 2^31": 2**31 - 2, "at 2^53": 2**53 - 1}
"""Two claims of one job go beyond 31 bits, or beyond what JavaScript's numbers can count."""
CALENDARS: dict[str, tuple[str, str, int]] = {
    "daily": ("@daily", "UTC", 2),
    "a skipped hour": ("30 2 30-31 3 *", "Europe/Berlin", 2),
    "an hour that comes twice": ("30 1 3-4 11 *", "America/New_York", 2),
    "quarters of a night": ("*/15 2 27 10 *", "Europe/Berlin", 6),
    "every other minute": ("*/2 * * * *", "UTC", 6),
    "six fields": ("30 15 12 * * *", "Asia/Kolkata", 2),
    "a leap day": ("0 12 28-29 2 *", "UTC", 4),
    "a summer's Monday": ("0 9 * 7 MON", "America/New_York", 2),
    "the last of a month": ("0 0 L * *", "Europe/Berlin", 2),
}
"""Cron texts, their zones, and how many slots are waited for."""
OFTEN_MISSED = "every other minute"
"""Several of its slots are missed by one outage."""
MOST_MISSED = 200
"""Slots of a schedule that one late wake-up may pass over. Each of them is a job that waits at once, and what looks at
every job that waits takes minutes for the ten thousand that 10 days of a minute's schedule bring."""
MANY_JOBS = frozenset({"schedules", "calendars", "crowd"})
"""What brings jobs enough: such a run sends one of the usual ones beside them."""
CROWD = 120
"""Jobs that wait at once: more than a page."""
PUT_OFF = 10_000
"""Jobs that are there before the first and come due long after the last. Each verb that reads all rows takes a
millisecond for them, which few runs can bear."""


Pick: TypeAlias = Callable[[str, Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A workload: what is at work, and which faults it may meet."""

    scenario: Scenario
    faults: FaultPlan


LATER_LIVES: Final[Mapping[str, tuple[str, ...]]] = {
    "none": (),
    "retried": ("retry",),
    "retried and cancelled": ("retry", "cancel"),
    "cancelled and retried": ("cancel", "retry"),
    "sent again": ("send",),
}
"""What operators ask of a job after all that was drawn before."""


def drawable(names: Iterable[str]) -> frozenset[str]:
    """Return the names of what may be left out of a workload: how jobs end, and what only some runs have.

    Raises UsageError for one that nothing has, and where no job could end any more.
    """
    endings, features = ENDINGS | MORE_ENDINGS | OUTSIDE_ENDINGS, (*FEATURES, EARLY_ROUNDS)
    wanted = frozenset(names)
    for name in sorted(wanted):
        if name not in endings and name not in features:
            raise UsageError(
                f"a workload has no part called {name!r}{did_you_mean(name, [*endings, *features])}",
                hint=f"Jobs end so: {', '.join(endings)}. And some runs have: {', '.join(features)}.",
            )
    if "succeeds" in wanted:
        raise UsageError("every workload needs jobs that succeed", hint="Leave out another ending.")
    return wanted


def draw(
    choices: Choices,
    settings: Settings,
    capabilities: Capabilities,
    *,
    lease: Duration | None = None,
    left_out: frozenset[str] = frozenset(),
    zones: Sequence[str] = (),
) -> Drawn:
    """Draw a workload under the caller's settings, as far as the queue can do it, without what is `left_out`.

    `lease` is what the queue makes of the lease, where that is something else than the settings say; `zones` are the
    time zones that its statements name.
    """
    lease = settings.lease if lease is None else lease
    settings = settings if capabilities.maintenance else without_maintenance(settings)
    own_limit = settings.tool_concurrency
    settings = _draw_settings(choices, settings, capabilities, lease=lease)
    count = int(choices.pick("jobs", ("1", "2", "3")))
    if count == 1 and not own_limit and settings.tool_concurrency and capabilities.rate_limits:
        settings = _rated(settings)
    features = _draw_features(choices, capabilities) - left_out
    if not MANY_JOBS.isdisjoint(features):
        count = 1
    elif "windows" in features:
        count = max(count, 2)  # A window is for the job that comes next.
    endings = [name for name in endings_for(capabilities) if name not in left_out]
    if "ends" in features:
        settings = _draw_ends(choices, settings, capabilities)
    if "own terms" in features:  # maintenance has to outlast the longest of them
        longest = settings.batch_size * 2 * settings.job_timeout + settings.lease
        settings = settings.changed(stuck_timeout=max(settings.stuck_timeout, longest))
    workers = WORKERS[: int(choices.pick("workers", ("2", "1", "3")))]
    # Drawn in this order: a seed stands for a run.
    serves = _draw_served(choices, workers) if "worker tools" in features else {}
    pauses = _draw_pauses(choices, settings) if "pauses" in features else ()
    presets = _draw_presets(choices, features)
    asked = [_draw_job(choices, name, settings, capabilities, features, endings) for name in JOBS[:count]]
    asked = _in_flow(asked, _shape(choices, asked, features, capabilities), settings)
    jobs = (
        *asked,
        *_sent_again(asked, settings),
        *((_draw_scheduled(choices, settings, capabilities),) if "schedules" in features else ()),
        *((_draw_calendar(choices, settings),) if "calendars" in features and "schedules" not in features else ()),
        *_draw_several(choices, features),
        *(_hurried(settings) if settings.rate_limit else ()),
        BYSTANDER,
    )
    faults = _draw_faults(choices, capabilities)
    if capabilities.splits:
        jobs = tuple([replace(plan, children=int(choices.pick(f"children of {plan.name}", CHILDREN))) for plan in jobs])
    early = not capabilities.takes_back_in_claim and choices.pick(f"{EARLY_ROUNDS}?", RARELY) == "yes"
    if any(job.unique_key is not None for job in asked) and choices.pick("keys come back?", OFTEN) == "yes":
        jobs = _with_later_lives(choices, jobs, {job.name for job in asked}, settings, capabilities)
    if capabilities.blank_keys and any(job.unique_key == SHARED_KEY for job in asked):
        key = EDGE_KEYS[choices.pick("shared key", ("k", "k", "k", *EDGE_KEYS))]
        jobs = tuple([replace(job, unique_key=key) if job.unique_key == SHARED_KEY else job for job in jobs])
    if zones:
        jobs = _around_a_change(choices, jobs, zones, settings)
    scenario = Scenario(
        title="drawn from the generic workload",
        settings=settings,
        workers=workers,
        serves=serves,
        pauses=pauses,
        presets=presets,
        jobs=jobs,
        restart_after=RESTART_AFTER,
        early_rounds=early and EARLY_ROUNDS not in left_out,
    )
    return Drawn(scenario, faults)


def _draw_settings(choices: Choices, settings: Settings, capabilities: Capabilities, *, lease: Duration) -> Settings:
    drawn: dict[str, Any] = {}
    attempts = choices.pick("max attempts", ("as set", "1", "2"))
    if attempts != "as set":
        drawn["max_attempts"] = int(attempts)
    held_for_a_batch = capabilities.heartbeat or lease > 3 * settings.job_timeout
    if capabilities.maintenance and settings.stuck_timeout <= 2 * settings.job_timeout + settings.max_skew:
        held_for_a_batch = False  # maintenance would rightly be blamed for what a batch needs
    if held_for_a_batch and settings.batch_size == 1 and choices.pick("batch", ("1", "2")) == "2":
        drawn["batch_size"] = 2
        if capabilities.heartbeat:
            drawn["heartbeat_interval"] = settings.lease // BEATS
    if capabilities.maintenance and choices.pick("retention", ("as set", "as set", "a lease")) == "a lease":
        drawn["retention"] = settings.lease
    if capabilities.concurrency_limits:
        limits = {"none": {}, "of a tool": {"tool_concurrency": 1}, "of all": {"concurrency": 1}}
        drawn |= limits[choices.pick("limit", LIMITS)]
    if choices.pick("retry delay", ("as set", "as set", "near its cap")) != "as set" and not _never_capped(settings):
        drawn["retry_delay"] = max(settings.retry_delay, settings.retry_delay_max * 3 // 4)
    return settings.changed(**drawn)


def _draw_ends(choices: Choices, settings: Settings, capabilities: Capabilities) -> Settings:
    """Draw settings from the ends of their ranges, as far as each other allows.

    Faults apart, no claim may be lost: what a lease or maintenance must outlast moves with it.
    """
    timeout = settings.job_timeout
    if capabilities.heartbeat and choices.pick("lease", ("as set", "kept by heartbeats")) != "as set":
        lease = timeout * 2 // 5
        settings = settings.changed(lease=lease, heartbeat_interval=lease // BEATS_THAT_KEEP_IT)
    if capabilities.heartbeat and choices.pick("large batch", ("as set", "as set", "5")) == "5":
        beat = settings.heartbeat_interval or settings.lease // BEATS
        settings = settings.changed(batch_size=5, heartbeat_interval=beat)
    if capabilities.heartbeat and not settings.heartbeat_interval and choices.pick("beats", ("no", "often")) == "often":
        settings = settings.changed(heartbeat_interval=min(timeout, settings.lease) // 4)
    if settings.batch_size == 5 or choices.pick("stuck timeout", ("as set", "short")) == "short":
        settings = settings.changed(stuck_timeout=settings.batch_size * timeout + settings.lease)
    delays = {"as set": settings.retry_delay, "none": 0, "1s": SECOND, "at its cap": settings.retry_delay_max}
    return settings.changed(
        retry_delay=delays[choices.pick("retry delay at an end", tuple(delays))],
        retry_backoff=choices.pick("backoff", ("as set", "off")) == "as set" and settings.retry_backoff,
        max_attempts=int(choices.pick("attempts at an end", (str(settings.max_attempts), "1", "10"))),
        max_skew=settings.max_skew if choices.pick("skew", ("as set", "none")) == "as set" else 0,
        expire_interval=settings.expire_interval * int(choices.pick("expiry", ("1", "1", "10"))),
        poll_interval=settings.poll_interval * int(choices.pick("polls", ("1", "1", "30"))),
    )


def _draw_served(choices: Choices, workers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Draw what the workers serve; the first serves all, so that every job finds a worker."""
    drawn = {worker: SERVED[choices.pick(f"serves of {worker}", tuple(SERVED))] for worker in workers[1:]}
    return {worker: tools for worker, tools in drawn.items() if tools is not None}


def _draw_pauses(choices: Choices, settings: Settings) -> tuple[PausePlan, ...]:
    begins = {"0s": 0, "1s": SECOND, "a timeout": settings.job_timeout}
    lengths = {
        "1s": SECOND,
        "a timeout": settings.job_timeout,
        "a lease": settings.lease,
        "stuck": settings.stuck_timeout,
    }
    at = begins[choices.pick("a pause begins", tuple(begins))]
    return (PausePlan("tool", at, lengths[choices.pick("a pause lasts", tuple(lengths))]),)


def _draw_presets(choices: Choices, features: frozenset[str]) -> dict[str, int]:
    presets = {"put_off": PUT_OFF} if "put off" in features else {}
    if "presets" in features:
        presets["token"] = COUNTERS[choices.pick("counters", tuple(COUNTERS))]
    return presets


def _draw_calendar(choices: Choices, settings: Settings) -> JobPlan:
    name = choices.pick("calendar", (*CALENDARS, *(OFTEN_MISSED,) * 3))
    if name == OFTEN_MISSED and _is_too_often(2 * MINUTE, settings):
        name = "daily"
    text, zone, count = CALENDARS[name]
    return JobPlan(
        "cal",
        outcomes=ENDINGS[choices.pick("ending of the calendar", ("succeeds", "succeeds", "fails finally"))],
        cron=text,
        zone=zone,
        missed=Missed(choices.pick("missed slots", ("each", "latest", "latest"))),
        count=count,
        scheduled=True,
    )


def _is_too_often(period: Duration, settings: Settings) -> bool:
    """Say whether a schedule would miss more slots than a run can bear, while time runs late under these settings."""
    return max(moments(settings).values()) > MOST_MISSED * period


def _draw_several(choices: Choices, features: frozenset[str]) -> tuple[JobPlan, ...]:
    """Draw jobs that come together: two in one transaction, and a crowd."""
    several: list[JobPlan] = []
    if "transactions" in features and choices.pick("two in one transaction", ("no", "yes")) == "yes":
        ends = choices.pick("their transaction", ("commit", "commit", "rollback"))
        several.append(JobPlan("t", every=SECOND, count=2, transaction=ends))
    if "crowd" in features:
        several.append(JobPlan("m", every=MILLISECOND, count=CROWD))
        several.append(JobPlan("h", at=SECOND, priority=5))
    return tuple(several)


def _draw_features(choices: Choices, capabilities: Capabilities) -> frozenset[str]:
    able = [name for name, capability in FEATURES.items() if getattr(capabilities, capability)]
    odds = dict.fromkeys(able, RARELY if len(able) > FEW else OFTEN) | ODDS
    return frozenset(name for name in able if choices.pick(f"{name}?", odds[name]) == "yes")


def _draw_job(
    choices: Choices,
    name: str,
    settings: Settings,
    capabilities: Capabilities,
    features: frozenset[str],
    endings: Sequence[str],
) -> JobPlan:
    def pick(what: str, options: Sequence[str]) -> str:
        return choices.pick(f"{what} of {name}", options)

    def delay(what: str, wanted: bool) -> int | None:
        span = DELAYS[pick(what, tuple(DELAYS))] if wanted and pick(f"{what}?", ("no", "no", "yes")) == "yes" else None
        return None if span is None else span.resolve(settings)

    windows = "windows" in features
    if windows:
        endings = ("succeeds",) * len(endings) + tuple(endings)
    ending = pick("ending", endings)
    attempts = pick("attempts", FEW_OR_MANY) if ending == "fails" and capabilities.own_attempts else "as set"
    if attempts == "40" and capabilities.any_settings:
        attempts = pick("many attempts", MANY)
    wide = "wide values" in features
    big = capabilities.big_priorities and "payloads" in features
    priorities = WIDE_PRIORITIES if wide else ("0", str(BIG) if big else "5", "-5")
    operated = pick("operator", ("none", "none", "cancels", "cancels and retries", "retries"))
    plan = JobPlan(
        name,
        outcomes=(ENDINGS | MORE_ENDINGS | OUTSIDE_ENDINGS)[ending],
        takes=(SPANS["1s" if attempts != "as set" else pick("duration", SOON_ENDED if windows else tuple(SPANS))],),
        max_attempts=None if attempts == "as set" else _bounded(int(attempts), settings),
        at=(_draw_send_time(pick, name, settings) if windows else delay("send time", True)) or 0,
        start_after=delay("start time", capabilities.start_after),
        priority=int(pick("priority", priorities)) if capabilities.priorities else 0,
        unique_key=_draw_key(pick, features) if capabilities.unique else None,
        **_draw_featured(pick, settings, features),
        **_draw_terms(pick, settings, features),
        cancel_after=_draw_span(pick, "cancel", settings) if capabilities.cancel and "cancels" in operated else None,
        retry_after=_draw_span(pick, "retry", settings) if capabilities.retry and "retries" in operated else None,
    )
    keyless_window = plan.unique_key is None and plan.unique_for is not None
    return replace(plan, unique_for=None) if keyless_window else plan


def _never_capped(settings: Settings) -> bool:
    """Say whether nothing bounds the wait that doubles each time."""
    return settings.retry_backoff and settings.retry_delay_max >= LONGEST


def _bounded(attempts: int, settings: Settings) -> int:
    """Return how many attempts a job may have: fewer where it would wait for years, or longer than a run lasts."""
    if _never_capped(settings):
        return min(attempts, (LONGEST // max(settings.retry_delay, 1)).bit_length())
    wait = settings.retry_delay_max if settings.retry_backoff else settings.retry_delay
    return min(attempts, max(int(FEW_OR_MANY[-1]), MOST_ROUNDS * settings.cron_period // max(wait, 1)))


GROUP: Final = "g"
AT_ONCE: Final = "group at once"
"""Its jobs end together, where workers take them together: each may then miss the end of the other."""
CHILDREN: Final = ("2", "2", "3", "1", "0", "8")
"""Into how many jobs one is split."""
NO_FLOW: Final = MANY_JOBS | {"transactions", "payloads", "windows"}
"""What keeps a job from being sent, or there is only one of: a flow of such jobs says nothing."""


def _with_late_child(first: JobPlan, second: JobPlan, third: JobPlan, settings: Settings) -> list[JobPlan]:
    """Let a job wait for another, and get a child: while it waits, or once it should run."""
    at = settings.job_timeout // 2 if second.priority >= 0 else third.at
    first = replace(first, takes=(SPANS["1s"],), at=0)
    second = replace(second, takes=(SPANS["0.95x timeout"],), depends_on=(first.name,), at=0, start_after=None)
    return [first, second, replace(third, parent=second.name, start_after=None, at=at)]


def _shape(choices: Choices, jobs: list[JobPlan], features: frozenset[str], capabilities: Capabilities) -> str:
    """Say how the jobs of a run depend on each other.

    Where there are priorities it follows from these: another draw would let every seed stand for
    another run.
    """
    flows, parents = capabilities.flows and len(jobs) == 3, capabilities.parents and len(jobs) == 3
    groups = capabilities.groups
    able = {"chain": flows, "fan in": flows, "late child": parents, "group": groups, AT_ONCE: groups}
    if not any(able.values()) or len(jobs) < 2 or not features.isdisjoint(NO_FLOW):
        return "none"
    if not capabilities.priorities:
        return choices.pick("flow", ("none", *(shape for shape in able if able[shape])))
    first, second, last = jobs[0].priority, jobs[1].priority, jobs[-1].priority
    if first > 0 > last and able["chain"]:
        return "chain"
    if first < 0 != last and able["fan in"]:
        return "late child" if last < 0 and able["late child"] else "fan in"
    return "group" if able["group"] and (first > 0 or second < 0) else "none"


def _in_flow(jobs: list[JobPlan], shape: str, settings: Settings) -> list[JobPlan]:
    """Let jobs depend on each other. Those that others wait for mostly succeed: one that failed says all there is."""
    if shape == "none":
        return jobs
    if shape == AT_ONCE:
        jobs = [replace(job, takes=jobs[0].takes, outcomes=jobs[0].outcomes, at=0) for job in jobs]
    if shape in ("group", AT_ONCE):
        return [replace(job, group=GROUP, unique_key=None, dead_letter=None) for job in jobs]
    first, second, third = jobs
    if shape == "chain":
        second = replace(second, depends_on=(first.name,))
        return [first, second, replace(third, depends_on=(second.name,))]
    if second.priority >= 0:
        succeeds = ENDINGS["succeeds"]
        first, second, third = (replace(job, outcomes=succeeds, cancel_after=None, unique_key=None) for job in jobs)
    if shape == "late child":
        return _with_late_child(first, second, third, settings)
    return [first, second, replace(third, depends_on=(first.name, second.name))]


def _sent_again(jobs: list[JobPlan], settings: Settings) -> tuple[JobPlan, ...]:
    """Send each key twice more: once the first job that had it has ended, and when all that had it have had their time.

    A key that leaks is only seen by the next request for it; if the job that ends last leaks it,
    that is the last one.
    """
    first: dict[tuple[str, str], JobPlan] = {}
    for job in sorted(jobs, key=lambda job: job.at):
        if job.unique_key is not None and job.transaction != "rollback":
            first.setdefault((job.tool, job.unique_key), job)
    later = settings.stuck_timeout + settings.lease + max([job.at for job in jobs], default=0)
    again = JobPlan("again")
    return tuple(
        [
            replace(again, name=f"{job.name}-{name}", tool=tool, unique_key=key, **when)
            for (tool, key), job in first.items()
            for name, when in (("again", {"after": job.name}), ("at-last", {"at": later}))
        ]
    )


def _around_a_change(
    choices: Choices, jobs: tuple[JobPlan, ...], zones: Sequence[str], settings: Settings
) -> tuple[JobPlan, ...]:
    """Let the clocks of a zone be changed in the middle of a run, or while a job waits for its second attempt."""
    from job_harness.core.calendars import local_time, next_changes  # zoneinfo, which most searches do without

    changes = {local_time(zone, at): at for zone in zones for at in next_changes(zone)}
    change = changes.get(choices.pick("change of clocks", ("none", "none", *changes)))
    if change is None:
        return jobs
    ahead = {"half an hour": HOUR // 2, "half a retry delay": settings.retry_delay // 2}
    later = change - ahead[choices.pick("sent before it", tuple(ahead))]
    return tuple([job if job.after is not None else replace(job, at=job.at + later) for job in jobs])


def _rated(settings: Settings) -> Settings:
    """Limit what is claimed in a while, where a limit of those at once would hold back nothing.

    So it follows from what is drawn: another draw would let every seed stand for another run.
    """
    return settings.changed(tool_concurrency=0, rate_limit=2, rate_window=4 * max(settings.retry_delay, MINUTE))


def _hurried(settings: Settings) -> tuple[JobPlan, ...]:
    """Use up a rate with one that fails at once and is retried, and let as many come with its retry as would fit."""
    fails = JobPlan("hurried", outcomes=(Ending.FAIL, Ending.SUCCEED), takes=(SPANS["1s"],))
    at = settings.retry_delay + 2 * settings.poll_interval
    return fails, JobPlan("next", takes=(SPANS["1s"],), at=at, every=SECOND, count=settings.rate_limit)


def _with_later_lives(
    choices: Choices, jobs: tuple[JobPlan, ...], asked: Collection[str], settings: Settings, capabilities: Capabilities
) -> tuple[JobPlan, ...]:
    """Let operators come back to jobs that have a key, and send each key after all that was asked of its job."""
    lives = [
        life for life, verbs in LATER_LIVES.items() if all(getattr(capabilities, OPERATED[verb]) for verb in verbs)
    ]
    waits = {"1s": SECOND, "a lease": settings.lease, "stuck": settings.stuck_timeout}

    def act(name: str, verb: str) -> OperatorAct:
        return OperatorAct(verb, waits[choices.pick(f"wait before another {verb} of {name}", tuple(waits))])

    kept: list[JobPlan] = []
    back: list[JobPlan] = []
    for job in jobs:
        if job.name not in asked or job.unique_key is None or job.transaction == "rollback":
            kept.append(job)
            continue
        verbs = LATER_LIVES[choices.pick(f"later lives of {job.name}", lives)]
        operated = replace(job, then=tuple([act(job.name, verb) for verb in verbs]))
        kept.append(operated)
        at = job.at + job.open_for + sum(each.after for each in operated.operated()) + SECOND
        again = JobPlan(f"{job.name}-back", tool=job.tool, unique_key=job.unique_key)
        last = replace(again, name=f"{job.name}-in-the-end", at=at + 2 * (settings.stuck_timeout + settings.lease))
        back += [replace(again, after=job.name, at=at), last]
    return (*kept, *back)


def _draw_send_time(pick: Pick, name: str, settings: Settings) -> int | None:
    """Draw when a job is sent whose key may be held: the first at once, and the others while it is held or after."""
    if name == JOBS[0]:
        return None
    return AROUND_WINDOWS[pick("send time", tuple(AROUND_WINDOWS))].resolve(settings)


def _draw_key(pick: Pick, features: frozenset[str]) -> str | None:
    if "wide values" in features:
        return WIDE_KEYS[pick("key", tuple(WIDE_KEYS))]
    keys = ("k", "k", "k", "none") if "windows" in features else ("none", "none", "k")
    return SHARED_KEY if pick("key", keys) == SHARED_KEY else None


def _draw_terms(pick: Pick, settings: Settings, features: frozenset[str]) -> dict[str, Any]:
    """Draw what a job asks for itself; a lease outlives its timeout by as much as the settings have it, or beats do."""
    drawn: dict[str, Any] = {}
    spare, timeout = settings.lease - settings.job_timeout, settings.job_timeout
    if "own terms" in features and spare > 0:
        lengths = {"none": 0}
        if 2 * settings.heartbeat_interval <= timeout // 10 + spare:
            lengths["short"] = timeout // 10
        lengths["long"] = 2 * timeout
        if own := lengths[pick("own terms", tuple(lengths))]:
            drawn.update(timeout=own, lease=own + spare)
    elif "own terms" in features:
        leases = {"none": None, "long": 2 * settings.lease, "short": settings.lease * 3 // 4}
        drawn["lease"] = leases[pick("own lease", tuple(leases))]
    if "own delays" in features:
        delays = {"none": None, "0s": 0, "1s": SECOND, "3x": 3 * settings.retry_delay}
        drawn["retry_delay"] = delays[pick("own delay", tuple(delays))]
    if "windows" in features:
        windows = {"1x timeout": timeout, "1x lease": settings.lease, "none": None}
        drawn["unique_for"] = windows[pick("window", ("1x timeout", "1x lease", *windows))]
    return drawn


def endings_for(capabilities: Capabilities) -> tuple[str, ...]:
    """List the endings that a queue can record."""
    more = () if capabilities.own_attempts else tuple(MORE_ENDINGS)
    told = tuple(name for name in (*ENDINGS, *more) if capabilities.final_errors or name != "fails finally")
    if not capabilities.signals:
        return told
    (instead,) = OUTSIDE_ENDINGS
    return tuple(instead if name == "kills its worker" else name for name in told)


def _draw_featured(pick: Pick, settings: Settings, features: frozenset[str]) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    if "tools" in features or "worker tools" in features:
        drawn["tool"] = pick("tool", TOOLS)
    if "serial keys" in features:
        drawn["serial_key"] = SERIAL_KEYS[pick("serial key", ("s", "s", "s", "none", "odd", "NUL"))]
    if "dead letters" in features and pick("dead letter", ("dead", "none")) == "dead":
        drawn.update(dead_letter="dead", input={"of": "a dead letter"})
    if "payloads" in features and (payload := pick("payload", ("none", *Payload))) != "none":
        drawn["payload"] = Payload(payload)
        drawn.pop("input", None)
    if "transactions" in features and (ends := pick("transaction", ("none", "commit", "rollback"))) != "none":
        drawn.update(transaction=ends, open_for=_draw_span(pick, "transaction's time", settings))
    return drawn


def _draw_scheduled(choices: Choices, settings: Settings, capabilities: Capabilities) -> JobPlan:
    def pick(what: str, options: Sequence[str]) -> str:
        return choices.pick(f"{what} of the schedule", options)

    periods = {"a cron": settings.cron_period, "two ticks": 2 * settings.tick_interval, "a lease": settings.lease}
    every = periods[pick("period", tuple(periods))]
    return JobPlan(
        "cron",
        outcomes=ENDINGS[pick("ending", ("succeeds", "fails once", "fails finally", "kills its worker"))],
        at={"0s": 0, "1s": SECOND, "a period": settings.cron_period}[pick("time", ("0s", "1s", "a period"))],
        priority=int(pick("priority", ("0", "5"))) if capabilities.priorities else 0,
        max_attempts=int(pick("attempts", ("1", "2"))),
        every=DAY if _is_too_often(every, settings) else every,
        count=int(pick("slots", ("2", "2", "3"))),
        scheduled=True,
    )


def _draw_span(pick: Pick, what: str, settings: Settings) -> int:
    spans = {"1s": Span(fixed=SECOND), "0s": Span(), **SPANS}
    return spans[pick(what, tuple(spans))].resolve(settings)


def _draw_faults(choices: Choices, capabilities: Capabilities) -> FaultPlan:
    if choices.pick("faults", ("some", "some", "some", "none")) == "none":
        return FaultPlan()
    able = possible_faults(capabilities)
    return FaultPlan(**{kind.id: int(choices.pick(f"faults: {kind.id}", kind.weight)) for kind in able})


def possible_faults(capabilities: Capabilities) -> list[FaultKind]:
    """List the faults that a queue with these capabilities can have, drawn or while a run is made smaller."""
    return [kind for kind in kinds().values() if not capabilities.missing(kind.needs)]
