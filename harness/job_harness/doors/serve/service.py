"""What a client may ask for, by name, and how it is told what has changed: one harness at a time.

Hides: how JSON becomes the arguments of a `JobHarness`, and what of its history the client has not
yet been told. Must not know: pipes, lines, the language of the client.
"""

from __future__ import annotations

import contextvars
import inspect
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.history import RUN_EVENTS, Effect, Observed
from job_harness.core.invariants import Invariant
from job_harness.core.model import Settings, parse_duration
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.loop import Deadlock
from job_harness.doors.pytest.fixtures import OWN_WORKERS, Shared, changed_settings, works_by_itself
from job_harness.doors.serve.conversation import ClientGone, Conversation
from job_harness.engines.reference.application import GUIDE, QueueError
from job_harness.errors import (
    EnvironmentUnavailable,
    HarnessError,
    Hung,
    LimitReached,
    UsageError,
    available,
    did_you_mean,
)
from job_harness.report.blame import frames_of
from job_harness.report.screen import first_screen, screen_text
from job_harness.subjects.processors import JobHarness, at_most_once, exactly_once
from job_harness.subjects.processors.hosted import HostedProcessors
from job_harness.worlds.peers.peer import PeerLost

if TYPE_CHECKING:
    from job_harness.doors.serve.own_workers import OwnWorkers
    from job_harness.subjects.processors import JobHandle

KINDS: Final[Sequence[tuple[type[BaseException], str]]] = (
    (AssertionError, "assertion"),
    (UsageError, "usage"),
    (Hung, "hung"),
    (LimitReached, "limit"),
    (PeerLost, "hung"),
    (EnvironmentUnavailable, "environment"),
    (HarnessError, "usage"),
    (QueueError, "usage"),
    (Deadlock, "deadlock"),
)
"""What an ask that is refused is called; anything else is `internal`."""
IN_MEMORY: Final = ("memory", "reference")
"""Names of the reference queue in memory, whose worker runs processors."""


class OpenedHarness:
    """A harness that a client has opened, and what it was last told."""

    def __init__(self, harness: JobHarness, conversation: Conversation, *, title: str) -> None:
        self.harness = harness
        self.title = title
        self._conversation = conversation
        self._checking = False
        self.hosted: HostedProcessors = harness.host(conversation)
        self._told = 0
        self._runs: dict[str, int] = {}
        self._paths: dict[str, list[str]] = {}

    def news(self) -> dict[str, Any]:
        """Return the time, the jobs that changed since this was last called, and the side effects since then."""
        events = self.harness.history.events
        fresh, self._told = events[self._told :], len(events)
        changed: dict[str, Any] = {}
        effects: list[dict[str, Any]] = []
        for event in fresh:
            if type(event) is Observed:
                if event.after is not None:
                    changed[event.job] = event.after
                    path = self._paths.setdefault(event.job, [])
                    status = event.after.status
                    if status is not None and (not path or path[-1] != status):
                        path.append(str(status))
            elif type(event) is Effect:
                if event.name == "started":
                    self._runs[event.job] = self._runs.get(event.job, 0) + 1
                    changed.setdefault(event.job, None)
                elif event.name not in RUN_EVENTS:
                    effects.append(self._effect(event))
        return {
            "now": self.now_ms,
            "jobs": [self._job(job, view) for job, view in changed.items()],
            "effects": effects,
        }

    def always(self) -> None:
        """Let the client judge by its own checks after every event, and now if there are jobs."""
        if self._checking:
            self._check(self.harness)
        else:
            self._checking = True
            self.harness.always(self._check)

    def at_rest(self) -> None:
        """Let the client judge by its checks that may wait, once nothing is left to do in an explored test."""
        self.harness.checks.add_at_rest(lambda harness: self._check(harness, at_rest=True))

    def _check(self, harness: JobHarness, *, at_rest: bool = False) -> None:
        for broken in self._conversation.check(self.news(), at_rest=at_rest):
            harness.checks.report(broken["name"], broken["message"])

    @property
    def now_ms(self) -> float:
        """The virtual time of day in milliseconds since 1970."""
        return round(self.harness.now.timestamp() * 1000, 3)

    def _job(self, job: str, view: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"id": job, "runs": self._runs.get(job, 0)}
        if view is not None:
            told |= {
                "tool": view.tool,
                "status": None if view.status is None else str(view.status),
                "attempts": view.attempts,
                "maxAttempts": view.max_attempts,
                "output": view.output,
                "error": view.error,
                "path": self._paths[job],
            }
        return told

    def _effect(self, event: Effect) -> dict[str, Any]:
        start = self.harness.now - timedelta(microseconds=self.harness.bench.instant)
        at = (start + timedelta(microseconds=event.at)).timestamp() * 1000
        return {
            "name": event.name,
            "at": round(at, 3),
            "job": event.job,
            "attempt": event.attempt,
            "worker": event.actor,
            "data": {} if event.data is None else event.data,
        }

    def look_at(self, jobs: Sequence[str], *, seen: Sequence[str] = ()) -> None:
        """Remember that the test has read how these jobs stand, and something of those that it has `seen`."""
        for job in self._paths.keys() & jobs:
            self.harness.status(job)
        for job in self._paths.keys() & seen:
            self.harness.effects(job=job)

    def run(self, *, title: str = "") -> Run:
        """Return what was judged wrong, the invariants of the test's own included."""
        return Run(
            scenario=Scenario(title=title or self.title, settings=self.harness.settings),
            engine=self.harness.engine,
            history=self.harness.history,
            tape=self.harness.tape,
            anomalies=self.harness.anomalies,
            now=self.harness.bench.instant,
            lines=self.harness.bench.session.recorder.lines,
        )


class HarnessService:
    """Carries out what a client asks for."""

    def __init__(self, conversation: Conversation) -> None:
        """Let asks come from this conversation, also in the middle of a turn."""
        self._conversation = conversation
        self._shared = Shared(dsn=None)
        self.opened: OpenedHarness | None = None
        self._own: OwnWorkers | None = None
        """Kept from one test to the next; it may be between two."""
        conversation.service = self

    def run(self) -> None:
        """Serve until the client is gone."""
        self._conversation.greet()
        try:
            while True:
                self.carry_out(self._conversation.next_ask())
        except ClientGone:
            return
        finally:
            if self.opened is not None:
                self.opened.harness.bench.break_off("the client is gone")
                self.opened.harness.close()
            if self._own is not None:
                self._own.close()
            self._shared.close()

    def carry_out(self, ask: Mapping[str, Any]) -> None:
        """Do what is asked for and answer, or say why not."""
        number, actor = ask["ask"], ask.get("actor")
        if actor is not None:
            context = None if self.opened is None else self.opened.hosted.context_of(actor)
            if context is None:
                return  # Its worker is dead: nothing of it is heard.
            self._answer(number, ask, context=context)
        else:
            self._answer(number, ask)

    def _answer(self, number: int, ask: Mapping[str, Any], *, context: contextvars.Context | None = None) -> None:
        try:
            work = self._bound(ask)
            value = work() if context is None else context.run(work)
        except ClientGone:
            raise
        except BaseException as error:
            self._conversation.send({"answer": number, "refused": refusal(error), **self._news()})
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return
        self._conversation.send({"answer": number, "value": value, **self._news()})

    def _news(self) -> dict[str, Any]:
        if (own := self._workers) is not None:
            return {"news": own.news()}
        return {} if self.opened is None else {"news": self.opened.news()}

    @property
    def _workers(self) -> OwnWorkers | None:
        """The user's own workers, where the test at work has them."""
        return self._own if self._own is not None and self._own.is_open else None

    def _bound(self, ask: Mapping[str, Any]) -> Callable[[], Any]:
        """Return what was asked for with its arguments. Raises UsageError for what does not exist."""
        do, given = ask.get("do"), ask.get("with") or {}
        verb = ASKS.get(do) if isinstance(do, str) else None
        if verb is None:
            raise UsageError(f"there is no {do!r} to ask for{did_you_mean(str(do), ASKS)}", hint=available(ASKS))
        refuse_unknown(str(do), verb, given)
        try:
            inspect.signature(verb).bind(self, **given)
        except TypeError as error:
            raise UsageError(f"{do}: {error}") from None
        return lambda: verb(self, **given)

    @property
    def _harness(self) -> JobHarness:
        if self._workers is not None:
            raise UsageError(
                "this test has workers of its own: jobs are sent, run and cancelled by the library itself",
                hint="Call boss.send() and the like. Time passes with advance(), runUntilIdle() and waitFor().",
            )
        if self.opened is None:
            raise UsageError(
                "no harness is open",
                hint="The test that opened it is over. One that runs at the same time (`concurrent`) closes it, too: "
                "let the tests of a file run one after the other.",
            )
        return self.opened.harness

    def _handle(self, job: str) -> JobHandle:
        found = [handle for handle in self._harness.all_enqueued() if handle.id == job]
        if not found:
            raise UsageError(
                f"there is no job {job!r}{did_you_mean(job, [h.id for h in self._harness.all_enqueued()])}"
            )
        return found[0]

    # opening and closing --------------------------------------------------------------------------------------------

    def open(self, **options: Any) -> dict[str, Any]:
        """Open an empty queue; one at a time. Returns the time of day at which it begins."""
        if self.opened is not None:
            raise UsageError(
                f"the harness of {self.opened.title!r} is still open: tests that run at once share one virtual time",
                hint="Let tests of one file run one after the other, without `concurrent`.",
            )
        self.opened = self.make(options)
        return {"now": self.opened.now_ms, "engine": self.opened.harness.engine}

    def open_workers(self, *, queue: str, title: str = "the workers of this test") -> dict[str, Any]:
        """Make an empty database for workers that the client starts; returns the time, and the `url`."""
        from job_harness.doors.serve.own_workers import OwnWorkers  # Only such a test pays for it.

        if self.opened is not None or self._workers is not None:
            raise UsageError("a harness is still open: tests that run at once share one virtual time")
        if self._own is None:
            self._own = OwnWorkers(self._conversation)
        return self._own.open(queue, title=title)

    def watch_jobs(self) -> None:
        """Write down what becomes of jobs from here on, if their table is there; else when time passes."""
        if (own := self._workers) is not None:
            own.watch()

    def worker_died(self, *, worker: str, ports: Sequence[int]) -> None:
        """Wait until the database has ended the sessions of a dead worker, and let the client begin it anew."""
        if (own := self._workers) is None:
            raise UsageError("no worker of the client's own is at work")
        own.died(worker, ports)

    def make(self, options: Mapping[str, Any]) -> OpenedHarness:
        """Return a harness with these options. Raises UsageError for one that does not exist."""
        refuse_unknown("open", self._made, options)
        return self._made(**options)

    def _made(
        self,
        *,
        engine: str = "memory",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        at_most_once: Sequence[Any] = (),
        exactly_once: Sequence[Any] = (),
        title: str = "the jobs of this test",
    ) -> OpenedHarness:
        if engine not in IN_MEMORY and not works_by_itself(engine):
            raise UsageError(
                f"no processors can run on the engine {engine!r}{did_you_mean(engine, [*IN_MEMORY, *OWN_WORKERS])}",
                hint="Available: memory, and pgboss@VERSION, whose own work() runs them.",
            )
        harness = JobHarness(
            settings=_settings(settings or {}),
            seed=whole_number(seed, "seed"),
            invariants=[*map(_at_most_once, at_most_once), *map(_exactly_once, exactly_once)],
            workplace=self._shared.workplace(engine),
        )
        return OpenedHarness(harness, self._conversation, title=title)

    def close(self, *, looked: Sequence[str] = (), seen: Sequence[str] = (), judge: bool = True) -> dict[str, Any]:
        """Judge and close; returns what is wrong, and what was not judged, in words.

        `looked` are the jobs whose status the test has read, `seen` those of which it has read anything.
        """
        if (own := self._workers) is not None:
            return own.finish(looked=looked, judge=judge)
        opened, harness = self.opened, self._harness
        assert opened is not None
        try:
            if not judge:
                return {"problems": [], "notes": [], "unjudged": []}
            opened.look_at(looked, seen=seen)
            problems, frames = harness.review.other_problems(), []
            if harness.anomalies:
                run = opened.run()
                screen = screen_text(first_screen(run, title=run.scenario.title, default=GUIDE)).rstrip()
                problems, frames = [screen, *problems], [frame.data for frame in frames_of(run)]
            unjudged = (
                []
                if problems
                else [told for told in (harness.review.unended(due=False), harness.review.unserved()) if told]
            )
            return {"problems": problems, "notes": harness.notes(), "unjudged": unjudged, "frames": frames}
        finally:
            self.opened = None
            harness.close()

    # the verbs of a harness -----------------------------------------------------------------------------------------

    def register(self, *, slug: str) -> None:
        """Let the client's process run a tool's jobs."""
        harness, opened = self._harness, self.opened
        assert opened is not None
        harness.register(slug, opened.hosted.processor(slug))

    def enqueue(
        self,
        *,
        slug: str,
        input: Any = None,
        priority: int = 0,
        start_after: Any = None,
        max_attempts: int | None = None,
        unique_key: str | None = None,
    ) -> str:
        """Accept a job; returns its id."""
        handle = self._harness.enqueue(
            slug,
            input,
            priority=priority,
            start_after=_moment(start_after),
            max_attempts=max_attempts,
            unique_key=unique_key,
        )
        return handle.id

    def cancel(self, *, job: str) -> bool:
        """Cancel a job, as an operator does."""
        return self._harness.cancel(job)

    def retry(self, *, job: str) -> bool:
        """Open a new attempt budget, as an operator does."""
        return self._harness.retry(job)

    def crash_worker(self, *, at: str | None = None, job: str | None = None) -> None:
        """Let the worker die, now or at a place."""
        self._harness.crash_worker(at=_name(at, "crash_worker: at"), job=job)

    def deliver_twice(self, *, job: str) -> None:
        """Let the next delivery of a job arrive twice."""
        self._harness.deliver_twice(job)

    def perform_job(self, *, slug: str, input: Any = None) -> dict[str, Any]:
        """Run a processor once, without the queue."""
        result = self._harness.perform_job(slug, input)
        return {"success": result.success, "output": result.output, "error": result.error}

    def work_one(self) -> str | None:
        """Let the worker take one due job; returns its id."""
        handle = self._harness.work_one()
        return None if handle is None else handle.id

    def drain(
        self, *, with_scheduled: bool = False, with_recursion: bool = True, limit: int | None = None
    ) -> dict[str, int]:
        """Work until no job is due; returns counts by outcome."""
        most = None if limit is None else whole_number(limit, "limit")
        counts = self._harness.drain(with_scheduled=with_scheduled, with_recursion=with_recursion, limit=most)
        return dict(counts.items())  # Read so, it is not the test that has looked at them.

    def run_until_idle(self) -> None:
        """Let time pass until every job has ended."""
        (self._workers or self._harness).run_until_idle()

    def advance(self, *, by: Any) -> None:
        """Let time pass and everything happen that is due."""
        (self._workers or self._harness).advance(_length(by))

    def jump(self, *, by: Any) -> None:
        """Move the clock; nothing acts."""
        self._harness.jump(_length(by))

    def wait_for(self, *, job: str, status: str | None = None, within: Any = "1d") -> None:
        """Let time pass until a job has ended, or has a status."""
        wanted = _name(status, "wait_for: the status", hint='Write waitFor(job, "COMPLETED", { within: "5m" }).')
        (self._workers or self._harness).wait_for(job, wanted, within=_length(within))

    def all_enqueued(self, *, slug: str | None = None, **wanted: Any) -> list[str]:
        """List the jobs that match."""
        return [handle.id for handle in self._harness.all_enqueued(slug, **_looked(wanted))]

    def assert_enqueued(self, *, slug: str | None = None, count: int | None = None, **wanted: Any) -> str:
        """Return the first job that matches."""
        return self._harness.assert_enqueued(slug, count=count, **_looked(wanted)).id

    def refute_enqueued(self, *, slug: str | None = None, **wanted: Any) -> None:
        """Refuse where a job matches."""
        self._harness.refute_enqueued(slug, **_looked(wanted))

    def assert_path(self, *, job: str, path: list[str]) -> None:
        """Refuse where a job went through other statuses."""
        self._harness.assert_path(job, path)

    def always(self) -> None:
        """Judge by checks of the client's own after every event; workers of its own have none that is not an answer."""
        if self._workers is None and self._harness is not None:
            assert self.opened is not None
            self.opened.always()

    def at_rest(self) -> None:
        """Judge by checks of the client's own once nothing is left to do in an explored test."""
        assert self.opened is not None
        self.opened.at_rest()

    def broken(self, *, name: str, message: str) -> None:
        """Report that a check of the test's own does not hold: an anomaly."""
        (self._workers or self._harness.checks).report(name, message)

    def explore(self, **asked: Any) -> dict[str, Any]:
        """Play the body of a test many times, or as a token says."""
        from job_harness.doors.serve.exploration import explore  # Only an explored test pays for the import of pytest.

        refuse_unknown("explore", explore, asked)
        return explore(self, self._conversation, **asked)


_OWN: Final = ("run", "carry_out", "make")
ASKS: Final[Mapping[str, Callable[..., Any]]] = {
    name: verb
    for name, verb in vars(HarnessService).items()
    if inspect.isfunction(verb) and not name.startswith("_") and name not in _OWN
}
"""What a client may ask for, by name."""


def refuse_unknown(do: str, verb: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that a verb does not take; one that takes any checks them itself."""
    parameters = inspect.signature(verb).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    known = [name for name in parameters if name not in ("self", "service", "conversation")]
    for name in given:
        if name not in known:
            raise UsageError(f"{do} takes no {name!r}{did_you_mean(name, known)}", hint=available(known))


def refusal(error: BaseException) -> dict[str, Any]:
    """Say why something was not done: a kind, the words, what to do about it."""
    kind = next((kind for raised, kind in KINDS if isinstance(error, raised)), "internal")
    hint = error.hint if isinstance(error, HarnessError) else ""
    message = error.message if isinstance(error, HarnessError) else str(error)
    name = type(error).__name__
    if kind == "internal":
        message = f"{name}: {message}"
        hint = "".join(traceback.format_tb(error.__traceback__)[-3:])
    return {"kind": kind, "name": name, "message": message, "hint": hint}


def _settings(given: Mapping[str, Any]) -> Settings:
    known = [_camel(name) for name in Settings.names()]
    for name in given:
        if _snake(name) not in Settings.names():
            near = did_you_mean(name, known)
            raise UsageError(f"settings: there is no setting {name!r}{near}", hint=available(known, near=name))
        value = given[name]
        if _snake(name) in Settings.duration_names() and type(value) is int and value >= 1000 and not value % 1000:
            raise UsageError(
                f"settings: {name} is {value}, which would be seconds, and looks like milliseconds",
                hint=f'Write "{value // 1000}s", or "{value}s" if you mean seconds.',
            )
    return changed_settings(GUIDE, {_snake(name): value for name, value in given.items()}, named=_camel)


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _at_most_once(asked: Any) -> Invariant:
    return at_most_once(**_once(asked, "atMostOnce"))


def _exactly_once(asked: Any) -> Invariant:
    return exactly_once(**_once(asked, "exactlyOnce", tool="pay"))


def _once(asked: Any, option: str, **more: str) -> dict[str, Any]:
    """Return a side effect's name and how it is counted, as the invariant takes it; `more` may be given besides."""
    given = {"name": asked} if isinstance(asked, str) else asked
    match given:
        case {"name": str(), **rest} if not set(rest) - {"per", *more}:
            if isinstance(rest.get("per", []), list) and all(isinstance(rest.get(key, ""), str) for key in more):
                return dict(given)
    shown = "".join(f', {key}: "{value}"' for key, value in more.items())
    raise UsageError(
        f"{option} cannot be {asked!r:.80}", hint=f'Write "charged", or {{ name: "charged", per: ["order"]{shown} }}.'
    )


def whole_number(given: Any, name: str) -> int:
    """Return a whole number as it was given. Raises UsageError for anything else."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise UsageError(f"{name} must be a whole number, not {given!r:.80}")
    return given


def _name(given: Any, what: str, *, hint: str = "") -> str | None:
    if given is not None and not isinstance(given, str):
        raise UsageError(f"{what} must be text, not {given!r:.80}", hint=hint)
    return given


def _length(given: Any) -> Any:
    """Return a length as the harness takes it: text such as "15m", or seconds."""
    if isinstance(given, str):
        try:
            parse_duration(given)
        except ValueError as error:
            raise UsageError(str(error), hint='Write a length such as "15m", "2s" or a number of seconds.') from None
    return given


def _moment(given: Any) -> Any:
    """Return a length, or `{"at": milliseconds}` as a time of day."""
    if isinstance(given, dict):
        if not isinstance(given.get("at"), int | float):
            raise UsageError(f"start_after cannot be {given!r:.80}", hint='Give a length such as "5m", or a Date.')
        return datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(milliseconds=given["at"])
    return None if given is None else _length(given)


def _looked(wanted: Mapping[str, Any]) -> Any:
    told = {_snake(name): value for name, value in wanted.items()}
    if "start_after" in told:
        told["start_after"] = _moment(told["start_after"])
    return told
