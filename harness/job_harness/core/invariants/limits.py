"""Limits: one unfinished job for a unique key, one PROCESSING job for a serial key, and no more at once than allowed.

These are counted from the rows as they change, so a claim counts until the row says otherwise: a
worker that died keeps its place until its claim is taken back, and no actor is blamed for that.
Faults excuse nothing here, since a limit that holds only in good weather is none. A unique key is
one tool's: two tools may use the same. A refusal of one is wrong only if no job of the tool held it
at any time of the call; refusals that say `exists` speak of the job's id. By design, a key may be
held only by jobs that wait: one that waits again may be refused, but two of them may have the same
key.

`Standing` says which jobs wait, which are active and which of them a limit or a serial key keeps back; the judges of
order and progress ask it before they blame a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeGuard

from job_harness.core.history import REFUSED, Call, Observed, Return
from job_harness.core.invariants.property import (
    AnomalyKind,
    EvidenceNeeded,
    Guarantee,
    Invariant,
    Kind,
    Monitor,
    Reporter,
    Rules,
)
from job_harness.core.model import (
    COMPLETED,
    PENDING,
    PROCESSING,
    Design,
    Instant,
    JobId,
    JobView,
    Settings,
    Starts,
    format_duration,
)

# which jobs wait, and which are active --------------------------------------------------------------------------------


class Standing:
    """The unfinished jobs, as last seen."""

    __slots__ = ("_completed", "_settings", "_starts", "active", "paused", "waiting")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starts = Starts(settings.rate_limit, settings.rate_window + 2 * settings.max_skew)
        self.paused: set[str] = set()
        """The tools that may be paused: each from the call of `pause` until an `unpause` was answered with done."""
        self.waiting: dict[JobId, JobView] = {}
        self.active: dict[JobId, JobView] = {}
        self._completed: set[JobId] = set()

    def observe(self, job: JobId, after: JobView | None) -> None:
        """Take over a change."""
        before = self.waiting.pop(job, None) or self.active.pop(job, None)
        if self._settings.rate_limit and is_claimed(after, before):
            self._starts.add(after.tool, after.started_at or 0, job)
        if after is None:
            return
        if after.status is PENDING:
            self.waiting[job] = after
        elif after.status is PROCESSING:
            self.active[job] = after
        elif after.status is COMPLETED:
            self._completed.add(job)

    def hear(self, event: Call | Return) -> None:
        """Take over that a tool is paused, or no longer."""
        if type(event) is Call and event.verb == "pause":
            self.paused.add(event.arguments[0])
        elif type(event) is Return and event.verb == "unpause" and event.outcome.done and event.answered:
            self.paused.discard(event.job or "")

    def blocked(
        self,
        row: JobView,
        active: Iterable[JobView] | None = None,
        *,
        now: Instant,
        tools: Sequence[str] | None = None,
    ) -> bool:
        """Say whether a waiting job has to wait for these active ones, by default for all there are, or for a rate.

        `now` is by the store's clock; `tools` are those that the worker serves, where not all.
        """
        if row.tool in self.paused or (tools is not None and row.tool not in tools):
            return True
        if row.depends_on and not self._completed.issuperset(row.depends_on):
            return True
        if self._settings.rate_limit and now < self._starts.free_at(row.tool):
            return True
        return kept_waiting(row, list(self.active.values() if active is None else active), self._settings)


def is_claimed(after: JobView | None, before: JobView | None) -> TypeGuard[JobView]:
    """Say whether a row shows a claim that it did not show before."""
    if after is None or after.status is not PROCESSING:
        return False
    known = None if before is None else (before.status, before.attempts, before.started_at)
    return known != (PROCESSING, after.attempts, after.started_at)


def kept_waiting(row: JobView, active: Sequence[JobView], settings: Settings) -> bool:
    """Say whether a limit is used up, or a serial key taken, by these active jobs."""
    if row.serial_key is not None and any(other.serial_key == row.serial_key for other in active):
        return True
    limit, tool_limit = settings.concurrency, settings.tool_concurrency
    if limit and len(active) >= limit:
        return True
    return bool(tool_limit) and sum(other.tool == row.tool for other in active) >= tool_limit


# unique_respected -----------------------------------------------------------------------------------------------------


class UniqueRespected(Monitor):
    """Keeps the unfinished jobs that hold a key."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue"}),
        "on_return": frozenset({"enqueue"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._skew = 2 * rules.settings.max_skew
        self._waiting_only = Design.UNIQUE_WHILE_IT_WAITS in rules.designs
        self._holders: dict[tuple[str, str], dict[JobId, bool]] = {}
        """By key, the jobs that hold it, and whether each keeps others out."""
        self._asked: dict[int, tuple[str, str]] = {}
        """Enqueues under way whose key no job has held since they were called."""
        self._windows: dict[JobId, tuple[tuple[str, str], Instant, Instant]] = {}
        """By job, the key that it holds for a while, from when and until when by the store's clock."""

    def on_call(self, event: Call) -> None:
        if event.verb in ("enqueue", "send"):
            request = event.arguments[0]
            key = (request.tool, request.unique_key)
            held = self._holders.get(key) or (
                self._windows and self._in_window(key, event.at - self._skew, begun_by=event.at + self._skew)
            )
            # Else its transaction may be what is missing, or what it depends on.
            alone = request.transaction is None and not request.depends_on and request.parent is None
            if request.unique_key is not None and not held and request.problem is None and alone:
                self._asked[event.number] = key

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is not None and after is not None and before.unique_key != after.unique_key:
            self._let_go(event.job, before)
        view = after or before
        if view is None or view.unique_key is None:
            return
        key = (view.tool, view.unique_key)
        holders = self._holders.setdefault(key, {})
        if self.rules.jobs:
            self._window(event, key)
        if self._finished(event.after):
            self._let_go(event.job, view)
            return
        holders[event.job] = before is None or not self._waiting_only or holders.get(event.job, False)
        if self._asked:
            self._asked = {number: asked for number, asked in self._asked.items() if asked != key}
        sharing = [job for job, alone in holders.items() if alone]
        if len(sharing) > 1:
            told = f"{', '.join(sharing)} hold the key {view.unique_key!r}"
            self.breach("unique_key_shared", told, job=event.job, others=sharing)

    def _let_go(self, job: JobId, view: JobView) -> None:
        """Take the key from a job that has it in this view: it has ended, or its row has another key now, or none."""
        key = (view.tool, view.unique_key or "")
        holders = self._holders.get(key, {})
        holders.pop(job, None)
        if not holders:
            self._holders.pop(key, None)

    def _finished(self, view: JobView | None) -> bool:
        return view is None or view.terminal or (self._waiting_only and view.status is not PENDING)

    def _window(self, event: Observed, key: tuple[str, str]) -> None:
        """Judge a new job by the windows of its key, and open its own; a deleted job has none."""
        if event.after is None:
            self._windows.pop(event.job, None)
        elif event.before is None:
            sent = event.after.created_at
            # A job that was sent in a transaction is seen at its commit; a window may have begun or ended in between.
            if other := self._in_window(key, event.clock, begun_by=sent if event.clock == sent else sent - 1):
                told = f"the key {key[1]!r} is unique for a while, and {other} was created within it"
                self.breach("unique_key_shared", told, job=event.job, others=[other])
            facts = self.rules.jobs.get(event.job)
            if facts is not None and facts.unique_for:
                self._windows[event.job] = key, sent, sent + facts.unique_for

    def _in_window(self, key: tuple[str, str], at: Instant, *, begun_by: Instant) -> JobId | None:
        """Return a job whose window of this key has begun by an instant, and is not over at another."""
        for job, (held, began, until) in self._windows.items():
            if held == key and began <= begun_by and at < until:
                return job
        return None

    def on_return(self, event: Return) -> None:
        asked = self._asked.pop(event.number, None)
        if asked is not None and not event.outcome.done and event.answered and "exists" not in event.outcome.reason:
            told = f"refused, and no unfinished job of the tool {asked[0]!r} holds the key{self._elsewhere(asked)}"
            self.breach("unique_key_stuck", f"{told}: {event.outcome.reason}", job=event.job)

    def _elsewhere(self, key: tuple[str, str]) -> str:
        """Say who holds a key for another tool: a queue that keeps keys over all tools breaks no other rule."""
        held = [(next(iter(jobs)), tool) for (tool, text), jobs in self._holders.items() if text == key[1]]
        return f" ({held[0][0]}, of the tool {held[0][1]!r}, does)" if held else ""


class KeysOfRows(UniqueRespected):
    """Keeps what stands in the rows of an application, which may write a key otherwise than it was sent.

    So a refusal is wrong only if it is that of a key which was seen in a row before, as it was
    sent.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"send"}), "on_return": frozenset({"send"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._seen: set[str] = set()

    def on_observed(self, event: Observed) -> None:
        super().on_observed(event)
        if event.after is not None and event.after.unique_key is not None:
            self._seen.add(event.after.unique_key)

    def on_return(self, event: Return) -> None:
        asked = self._asked.pop(event.number, None)
        if asked is not None and asked[1] in self._seen and event.outcome.kind is REFUSED and event.answered:
            told = f"it is refused, and no unfinished job holds the key {asked[1]!r}: {event.outcome.reason}"
            self.breach("unique_key_stuck", told, job=event.job)


UNIQUE_RESPECTED = Invariant(
    id="unique_respected",
    sentence="At most one unfinished job of a tool has a given unique key, which is free once that job has ended.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "unique_key_shared", Guarantee.UNIQUENESS, "Two unfinished jobs of one tool have the same unique key."
        ),
        AnomalyKind(
            "unique_key_stuck",
            Guarantee.UNIQUENESS,
            "A unique key is refused although no unfinished job of its tool holds it.",
        ),
    ),
    make=UniqueRespected,
    capabilities=("unique",),
    stepwise=KeysOfRows,
    evidence=EvidenceNeeded(columns=("unique_key",)),
)


# concurrency_limit ----------------------------------------------------------------------------------------------------


class ConcurrencyLimit(Monitor):
    """Counts what is PROCESSING, by tool."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._active: dict[JobId, str] = {}
        self._limited = bool(rules.settings.concurrency or rules.settings.tool_concurrency)

    def on_deleted(self, event: Observed) -> None:
        """Forget it."""
        self.on_changed(event)

    def on_changed(self, event: Observed) -> None:
        """Count what came to be PROCESSING."""
        if not self._limited:
            return
        after = event.after
        if after is None or after.status is not PROCESSING:
            self._active.pop(event.job, None)
        elif event.job not in self._active:
            self._active[event.job] = after.tool
            of_tool = sum(tool == after.tool for tool in self._active.values())
            for count, limit, what in (
                (len(self._active), self.settings.concurrency, "jobs"),
                (of_tool, self.settings.tool_concurrency, f"jobs of {after.tool!r}"),
            ):
                if limit and count > limit:
                    self.breach(
                        "concurrency_exceeded",
                        f"with it {count} {what} are PROCESSING, {limit} may be: {', '.join(self._active)}",
                        job=event.job,
                        others=self._active,
                    )


CONCURRENCY_LIMIT = Invariant(
    id="concurrency_limit",
    sentence="No more jobs are PROCESSING at once than the limits allow, for one tool and for all.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("concurrency_exceeded", Guarantee.CONCURRENCY, "More jobs are PROCESSING than a limit allows."),
    ),
    make=ConcurrencyLimit,
    capabilities=("concurrency_limits",),
    stepwise=ConcurrencyLimit,
    evidence=EvidenceNeeded(settings=("concurrency",)),
)


# rate_limit -----------------------------------------------------------------------------------------------------------


class RateLimit(Monitor):
    """Counts claims by tool, within a window that is shorter by as much as clocks may differ."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._limited = bool(rules.settings.rate_limit)
        self._starts = Starts(rules.settings.rate_limit, rules.settings.rate_window - 2 * rules.settings.max_skew)

    def on_changed(self, event: Observed) -> None:
        """Count a claim, unless one more of its tool is within the window than may be."""
        if not self._limited or not is_claimed(event.after, event.before):
            return
        tool, at = event.after.tool, event.after.started_at or 0
        if at < self._starts.free_at(tool):
            limit, window = self.settings.rate_limit, format_duration(self.settings.rate_window)
            jobs = [*(job for _, job in self._starts.claims[tool]), event.job]
            told = (
                f"with it {len(jobs)} jobs of {tool!r} were claimed within {window}, {limit} may be: {', '.join(jobs)}"
            )
            self.breach("rate_exceeded", told, job=event.job, others=jobs)
        self._starts.add(tool, at, event.job)


RATE_LIMIT = Invariant(
    id="rate_limit",
    sentence="Within any window, no more jobs of a tool are claimed than the rate limit allows.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("rate_exceeded", Guarantee.CONCURRENCY, "More jobs of a tool were claimed than its rate allows."),
    ),
    make=RateLimit,
    capabilities=("rate_limits",),
    stepwise=RateLimit,
    evidence=EvidenceNeeded(settings=("rate_limit",), columns=("started_at",)),
)


# serial_key_exclusive -------------------------------------------------------------------------------------------------


class SerialKeyExclusive(Monitor):
    """Keeps who is PROCESSING under which key."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._active: dict[str, dict[JobId, None]] = {}

    def on_deleted(self, event: Observed) -> None:
        self.on_changed(event)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is not None and after is not None and before.serial_key != after.serial_key:
            self._active.get(before.serial_key or "", {}).pop(event.job, None)
        view = after or before
        if view is None or view.serial_key is None:
            return
        active = self._active.setdefault(view.serial_key, {})
        if event.after is None or event.after.status is not PROCESSING:
            active.pop(event.job, None)
        elif event.job not in active:
            active[event.job] = None
            if len(active) > 1:
                self.breach(
                    "serial_key_shared",
                    f"{', '.join(active)} are PROCESSING under the serial key {view.serial_key!r}",
                    job=event.job,
                    others=active,
                )


SERIAL_KEY_EXCLUSIVE = Invariant(
    id="serial_key_exclusive",
    sentence="At most one job of each serial key is PROCESSING.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "serial_key_shared", Guarantee.CONCURRENCY, "Two jobs with the same serial key are PROCESSING at once."
        ),
    ),
    make=SerialKeyExclusive,
    capabilities=("serial_keys",),
    stepwise=SerialKeyExclusive,
    evidence=EvidenceNeeded(columns=("serial_key",)),
)
