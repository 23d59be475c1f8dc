"""What a door asks when a test has ended: what is wrong, what was not judged, what was out of control."""

from __future__ import annotations

from collections.abc import Sequence

from job_harness.core.history import Effect
from job_harness.core.invariants.effects import values_of
from job_harness.core.invariants.steps import STEPS
from job_harness.core.model import SECOND, Instant, format_duration, rounded, slug_of
from job_harness.core.run.verdict import Run
from job_harness.errors import EnvironmentUnavailable, did_you_mean
from job_harness.subjects.processors.bench import Bench
from job_harness.subjects.processors.clocks import bypassed
from job_harness.subjects.processors.delivery import RESERVED
from job_harness.subjects.processors.judgement import (
    anomaly_screen,
    hung,
    left_running,
    never_ended,
    not_happened,
    own_anomalies,
    readings,
    run_of,
    stubs_waiting,
    unseen_failures,
)
from job_harness.subjects.processors.other_start import EffectKey
from job_harness.subjects.processors.own_checks import OwnChecks
from job_harness.subjects.processors.running import RaisedError

MOST_WAITING = 3
"""Jobs that are not due yet and are named with their time."""


class HarnessReview:
    """Looks back at what happened on one bench."""

    def __init__(self, bench: Bench, checks: OwnChecks) -> None:
        self._bench = bench
        self._book = bench.book
        self._checks = checks

    def problems(self, *, title: str = "the jobs of this test") -> list[str]:
        """Say what is wrong with what happened: anomalies, FAILED jobs that the test ignored, leaks, and faults that
        were asked for and never came.
        """
        others = self.other_problems()
        found = (
            anomaly_screen(self._bench.application, self._bench.history, title=title),
            own_anomalies(self._bench.application, self._bench.history, (*self._bench.invariants, *STEPS)),
        )
        return [*(problem for problem in found if problem is not None), *others]

    def other_problems(self) -> list[str]:
        """Judge what must hold at rest, and say what is wrong beside anomalies."""
        if not self._bench.session.job_index.live:
            self._bench.session.judge.rest(self._bench.session.job_index.views)
        return self.test_problems()

    def test_problems(self) -> list[str]:
        """Say what is wrong beside anomalies: FAILED jobs that the test ignored, leaks, faults that never came."""
        found = (
            unseen_failures(self._bench.session.job_index.views, self._book.looked_at),
            "\n".join(dict.fromkeys(self._bench.node.blocked)) or None,
            hung(self._bench.handoff.blocked),
            left_running(
                [
                    *self._bench.running.leaked_tasks(besides=self._bench.node.waiting_stubs),
                    *self._bench.leaks.left_behind(),
                    *self._node_leaks(),
                ]
            ),
            stubs_waiting(self._bench.node.waiting_stubs),
            not_happened(self._bench.demands.deaths, self._bench.demands.twice),
        )
        return [problem for problem in found if problem is not None]

    def unended(self, *, due: bool = True) -> str:
        """Name the jobs of the test's own that have not ended and that it never looked at; empty where there are none.

        What a processor enqueued is left out: no test has to wait for a reminder in three days.
        With `due`, it says in words of pytest when those that wait for a time of their own may run.
        """
        live = self._bench.session.job_index.live
        own = (job for job in self._book.accepted if job not in self._book.seen and job not in self._bench.descent.jobs)
        ended = never_ended([live[job] for job in own if job in live])
        waiting = self.waiting() if due else []
        return "\n".join([ended, *(f"  {line}" for line in waiting)]) if ended else ""

    def waiting(self) -> list[str]:
        """Say of each job that has a later time of its own, and has not run yet, how far off that is."""
        now, live = self._bench.instant, self._bench.session.job_index.live.values()
        waiting = [view for view in live if not view.attempts and view.start_after - now >= SECOND]
        lines = [
            f"{view.id} ({view.tool}) is due in {format_duration(rounded(view.start_after - now))}, "
            f"at {self._write_instant(view.start_after)}"
            for view in waiting[:MOST_WAITING]
        ]
        if len(waiting) > MOST_WAITING:
            lines.append(f"and {len(waiting) - MOST_WAITING} more that are not due yet")
        if lines:
            lines.append(
                f"virtual time is {self._write_instant(now)}; job_clock.freeze() lets the test's datetime.now() "
                "follow it"
            )
        return lines

    def _write_instant(self, at: Instant) -> str:
        return f"{self._bench.application.moment(at):%Y-%m-%d %H:%M:%S}"

    def unsent(self) -> str:
        """Say that jobs were to run and none was ever sent; empty where one was, or the test looked for what is there.

        A fixture that lets jobs run for every test of a file is no mistake of a test that looks at
        what became of none.
        """
        nothing = self._book.bidden and not (self._book.accepted or self._book.looked or self.worked)
        return "no job was sent: nothing ran; call enqueue() before jobs are to run" if nothing else ""

    @property
    def worked(self) -> bool:
        """Whether any processor began."""
        return any(type(event) is Effect and event.name == "started" for event in self._bench.history.events)

    @property
    def happened(self) -> frozenset[str]:
        """The names of the side effects that processors declared."""
        events = self._bench.history.events
        return frozenset(each.name for each in events if type(each) is Effect and each.name not in RESERVED)

    @property
    def idle(self) -> frozenset[str]:
        """The side effects that the test's own invariants and checks ask about, and of which there was none."""
        asked = {invariant.effect for invariant in self._bench.session.judge.idle}
        return frozenset(name for name in asked | self._checks.asked_for if name is not None) - self.happened

    @property
    def keys(self) -> tuple[EffectKey, ...]:
        """The keys of side effects: their data in `per`, their identity, or all of their data if nothing judges them.

        One that is judged without `per` has no key that could vary: it is counted whatever its data
        are.
        """
        judged = {invariant.effect: invariant.per for invariant in self._bench.invariants}
        found: list[EffectKey] = []
        for event in self._bench.history.events:
            if type(event) is Effect and event.name not in RESERVED:
                data, per = event.data or {}, judged.get(event.name, ())
                whole = "" if event.name in judged else values_of(data, sorted(data))
                key = values_of(data, per) if per else event.identity or whole
                found.append(EffectKey(event.name, event.job, event.attempt, event.at, key, event.name in judged))
        return tuple(found)

    def unserved(self) -> str:
        """Name the invariants of the test's own that ask only of jobs of a tool that this test has not; else empty.

        The line is the same for every test; below it stands what the test has.
        """
        known = [*self._book.tasks, *self._bench.application.registry.get_registered_tools()]
        lines: list[str] = []
        for invariant in self._bench.invariants:
            tool = invariant.tool
            if tool is not None and self._book.accepted and not {tool, slug_of(tool)} & {*known}:
                lines += [f"{invariant.id} judged no job: this test has no tool {tool!r}{did_you_mean(tool, known)}"]
        return "\n".join([*lines, f"  the tools of this test: {', '.join(self._book.served)}"]) if lines else ""

    def observed(self, *, title: str = "the jobs of this test", failures: Sequence[str] = ()) -> Run:
        """Return what happened as a run, for a report; `failures` is what the test found wrong."""
        return run_of(self._bench.application, self._bench.history, title=title, failures=failures)

    def raised(self) -> list[RaisedError]:
        """Return what processors raised last, the earliest first."""
        return list(self._bench.running.raised)

    def notes(self) -> list[str]:
        """Name what was not under control: clocks and chance that processors read, threads, network, processes.

        Clocks and chance only of processors that were called. Attempts that prove nothing, since
        they waited for what died with a worker, come first.
        """
        called = {id(found) for tool, found in self._bench.of_tool.items() if tool in self._bench.running.tools}
        idle = {id(found) for found in self._bench.of_tool.values()} - called
        read = [each for found in self._bench.registered if id(found) not in idle for each in readings(found)]
        told = [
            f"{each.kind}: {each.name} at {each.place}"
            for each in read
            if not (self._bench.frozen and each.kind == "time")
        ]
        own = (*self._bench.running.undecided(), *dict.fromkeys(told), *bypassed(), *self._bench.leaks.notes)
        return [*own, *self._bench.node.findings, *self._bench.application.notes]

    @property
    def has_own_checks(self) -> bool:
        """Whether the test was judged by more than what holds of every queue: its own invariants, or `always`.

        What asks only about side effects that never happened has judged nothing.
        """
        idle = self.idle
        judged = any(invariant.effect not in idle for invariant in self._bench.invariants)
        return judged or (bool(self._checks) and not (self._checks.asked_for and self._checks.asked_for <= idle))

    @property
    def undecided(self) -> str:
        """Why what this harness saw may be the machine's doing; empty where it is not."""
        try:
            self._bench.application.check()
        except EnvironmentUnavailable as lost:
            return str(lost)
        except Exception:  # noqa: BLE001 - whatever else ended a worker is what the run came to
            return ""
        return "; ".join(dict.fromkeys(self._bench.node.blocked))

    def _node_leaks(self) -> list[str]:
        return self._bench.node.leaks() if self._bench.loop.broken is None else []
