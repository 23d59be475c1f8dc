"""8: every accepted job comes to an end: once faults stop, nothing goes round for ever.

A run that rests is judged at its rest. This is about the others: the same jobs come to stand as they stood, again and
again, with nothing gained in between. Counts only from the moment at which faults stop; before that, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.duration import Duration, Instant, format_duration
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status

RECURRENCES = 4
"""So often, at least, the same must come again; and more often than a job may be delivered."""
REMEMBERED = 100_000
"""Of so many different constellations the monitor keeps count."""
OPERATORS = frozenset({"retry", "resume"})
"""Who gives a job a new budget of attempts."""


class NoLivelock(Monitor):
    """Counts how often the unfinished jobs come to stand alike, measured from now, without one of them having ended."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._live: dict[JobId, JobView] | None = None
        """What is not at its end; None until faults stop."""
        self._ended: set[JobId] = set()
        self._times: dict[Hashable, int] = {}
        self._last: dict[Hashable, Instant] = {}
        self._stands: dict[tuple[JobId, Hashable], tuple[int, JobView]] = {}
        """By job and how it stands, whatever the time: how often, and how it stood then."""
        longest = max(rules.settings.lease, rules.settings.job_timeout, rules.settings.stuck_timeout)
        self._longest: Duration = longest + 2 * rules.settings.max_skew

    def healed(self, views: Mapping[JobId, JobView]) -> None:
        """Begin to watch: faults stop here, with these jobs."""
        self._live = {job: view for job, view in views.items() if not view.terminal}
        self._ended = {job for job, view in views.items() if view.terminal}
        self._anew()

    def _anew(self) -> None:
        self._times.clear()
        self._last.clear()
        self._stands.clear()

    def on_created(self, event: Observed) -> None:
        if self._live is not None and event.after is not None:
            self._live[event.job] = event.after
            self._anew()

    def on_deleted(self, event: Observed) -> None:
        if self._live is not None:
            self._live.pop(event.job, None)
            self._anew()

    def on_changed(self, event: Observed) -> None:
        live, view = self._live, event.after
        if live is None or view is None:
            return
        job = event.job
        if view.terminal:
            live.pop(job, None)
            if job not in self._ended:
                self._ended.add(job)
                self._anew()
            return
        live[job] = view
        if event.verb in OPERATORS:
            self._anew()
        else:
            self._count(job, view, event.clock)

    def _count(self, job: JobId, view: JobView, now: Instant) -> None:
        stand = (job, _stand(view))
        self._stands[stand] = self._stands.get(stand, (0, view))[0] + 1, view
        if len(self._times) >= REMEMBERED:
            return
        assert self._live is not None
        key = (job, tuple([self._relative(other, now) for other in self._live.values()]))
        times = self._times[key] = self._times.get(key, 0) + 1
        before, self._last[key] = self._last.get(key, now), now
        if times > _patience(view):
            self._tell(job, view, times, f", each time {format_duration(now - before)} after the last")

    def without_rest(self) -> None:
        """Say which job it is that goes round where a run came to its limit instead of its rest."""
        for (job, _), (times, view) in sorted(self._stands.items(), key=lambda item: (-item[1][0], item[0][0])):
            if times > _patience(view):
                self._tell(job, view, times, "")
                return

    def _tell(self, job: JobId, view: JobView, times: int, period: str) -> None:
        attempts = f"{view.attempts} attempt" + "s" * (view.attempts != 1)
        self.breach(
            "livelock",
            f"since faults stopped it came to be {view.status} with {attempts} {times} times{period}; it never ends",
            job=job,
        )

    def _relative(self, view: JobView, now: Instant) -> Hashable:
        """Answer how a job stands, its times by their distance from now as far as anybody may ask for it."""
        running = view.status is Status.PROCESSING
        return (
            view.id,
            _stand(view),
            max(0, view.start_after - now),
            max(0, view.lease_until - now) if view.lease_until is not None else None,
            max(-self._longest, view.started_at - now) if running and view.started_at is not None else None,
        )


def _stand(view: JobView) -> Hashable:
    return (view.status, view.queue_state, min(view.attempts, view.max_attempts + 1))


def _patience(view: JobView) -> int:
    return max(RECURRENCES, view.max_attempts + 1)


INVARIANT = Invariant(
    id="no_livelock",
    number=8,
    sentence="Every accepted job comes to an end: once faults stop, no job goes round for ever.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("livelock", Guarantee.AT_LEAST_ONCE, "A job changes again and again and never ends.", endless=True),
    ),
    make=NoLivelock,
    stepwise=NoLivelock,
)
