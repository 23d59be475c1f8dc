"""Plays the steps of a scenario: brings actors to points, lets time pass, and checks what was asserted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import UsageError
from harness.history.event import Effect, History, Observed, Return
from harness.history.outcome import Outcome
from harness.model.duration import Duration, Instant, format_duration
from harness.model.job import JobId
from harness.run.context import RunContext
from harness.run.observation import Recorder
from harness.run.stock import client, request_of
from harness.scenario.scenario import Expectation, Scenario, Step
from harness.sim.actor import Actor, State
from harness.sim.clock import Clocks
from harness.sim.kernel import Kernel
from harness.sim.request import Call

PATIENCE = 20_000
"""Kernel steps that one scenario step may take to bring an actor to its point."""
OPERATOR = "operator"


class Stopped(Exception):
    """A step cannot be done; the rest of the scenario makes no sense."""


class Director:
    """One method for each kind of step."""

    def __init__(
        self,
        scenario: Scenario,
        kernel: Kernel,
        world: RunContext,
        recorder: Recorder,
        clocks: Clocks,
        idle: Callable[[], None],
    ) -> None:
        self.scenario = scenario
        self.kernel = kernel
        self.world = world
        self.recorder = recorder
        self.clocks = clocks
        self._idle = idle
        self._failures: list[str] = []
        self._here: Step | None = None
        self._stopped = False

    def run(self) -> list[str]:
        """Play all steps; answer what was asserted and did not hold."""
        if not self.scenario.steps:
            self._idle()
        else:
            self.clients_first()
        try:
            for step in self.scenario.steps:
                self.play(step)
        except Stopped:
            self._stopped = True
        return self._failures

    def play(self, step: Step) -> None:
        """Play one step. Raises Stopped where it cannot be done."""
        self._here = step
        getattr(self, f"do_{step.kind}")(step)

    def clients_first(self) -> None:
        """Let those who send at the start send, before the first step."""
        ready = self.kernel.ready
        while ready:
            if ready[0].name.startswith("client-") and not ready[0].process:
                self.kernel.step()
            elif (amid := self._client_amid_call()) is not None:
                self.kernel.summon(amid)
            else:
                return

    def _client_amid_call(self) -> Actor | None:
        """Answer a client that stands before a statement of a verb: where verbs are stepped, it waits its turn anew."""
        clients = (actor for actor in self.kernel.ready if actor.name.startswith("client-"))
        return next((actor for actor in clients if actor.call is not None), None)

    # what went wrong ------------------------------------------------------------------------------------------------

    def _where(self, line: int) -> str:
        return f"{self.scenario.path}:{line}: " if self.scenario.path else ""

    def _fail(self, message: str) -> None:
        step = self._here
        assert step is not None
        self._failures.append(f"{self._where(step.line)}{step.text}: {message}")

    def _stop(self, message: str) -> Stopped:
        self._fail(message)
        return Stopped()

    def _actor(self, name: str | None) -> Actor:
        actor = self.kernel.actors.get(name or "")
        if actor is None:
            known = ", ".join(self.kernel.actors)
            raise self._stop(f"there is no actor {name!r} here; there are {known}")
        return actor

    # bringing actors to points --------------------------------------------------------------------------------------

    def _stands_at(self, actor: Actor, point: str, job: JobId | None) -> bool:
        request = actor.request
        if request is None:
            return False
        wanted = point if job is None or point in ("claim",) else f"{point} {job}"
        return request.point == wanted or (job is None and request.point.startswith(f"{point} "))

    def _bring(self, actor: Actor, point: str, job: JobId | None) -> None:
        """Let this actor act, and time pass where he must wait, until he stands at the point."""
        self.kernel.unhold(actor)
        for _ in range(PATIENCE):
            if self._stands_at(actor, point, job):
                return
            if not actor.alive:
                raise self._stop(f"{actor.name} is {actor.state.name.lower()}")
            if actor.state is State.READY or (actor.state is State.POLLING and point == "claim"):
                self.kernel.summon(actor)
            elif not self.kernel.step():
                break
        at = actor.request.point if actor.request is not None else "nothing"
        wanted = f"{point} {job or ''}".strip()
        raise self._stop(f"{actor.name} never comes to {wanted!r}; it stands at {at!r}{self._fate(job)}")

    def _fate(self, job: JobId | None) -> str:
        """Tell what became of a job that an actor was awaited at."""
        if job is None:
            return ""
        history = self.recorder.history
        path = " ".join(history.path(job)) or "nowhere"
        runners = dict.fromkeys(
            event.actor for event in history.of_job(job) if type(event) is Effect and event.name == "started"
        )
        return f". {job} went {path}, " + (f"run by {', '.join(runners)}" if runners else "run by nobody")

    def _perform(self, actor: Actor, **how: Any) -> Outcome | None:
        """Let the actor do the call that he stands before; answer its outcome as the queue gave it."""
        before = len(self.recorder.history)
        self.kernel._withdraw(actor)
        self.kernel.perform(actor, **how)
        for _ in range(PATIENCE):
            for event in self.recorder.history.events[before:]:
                if type(event) is Return and event.actor == actor.name:
                    return event.outcome
            if actor.state is not State.READY:
                break
            self.kernel.summon(actor)
        return None

    def _expect(self, step: Step, outcome: Outcome | None) -> None:
        if step.expect is None:
            return
        got = "nothing" if outcome is None else str(outcome.kind)
        if got != step.expect:
            reason = f" ({outcome.reason})" if outcome is not None and outcome.reason else ""
            self._fail(f"expected {step.expect}, got {got}{reason}")

    # steps ----------------------------------------------------------------------------------------------------------

    def do_act(self, step: Step) -> None:
        """`w1 claims a`, `w1 completes a -> refused`."""
        actor = self._actor(step.actor)
        verb = step.verb or ""
        if verb in ("claim", "poll"):
            self._claim(actor, step)
        elif verb == "start":
            self._bring(actor, "start", step.job)
            self.kernel.summon(actor)
        elif verb == "settle":
            self._settle(actor, step)
        else:
            self._bring(actor, verb, step.job)
            self._expect(step, self._perform(actor))

    def _claim(self, actor: Actor, step: Step) -> None:
        self._bring(actor, "claim", None)
        outcome = self._perform(actor)
        got = [claim.job for claim in outcome.value or ()] if outcome is not None and outcome.done else []
        if step.verb == "claim" and step.job is not None and step.job not in got:
            raise self._stop(f"the claim gave {', '.join(got) or 'nothing'}")
        self._expect(step, outcome)

    def _settle(self, actor: Actor, step: Step) -> None:
        for _ in range(PATIENCE):
            at = [verb for verb in ("complete", "fail", "release") if self._stands_at(actor, verb, step.job)]
            if at:
                self._expect(step, self._perform(actor))
                return
            if actor.state is State.READY:
                self.kernel.summon(actor)
            elif not self.kernel.step():
                break
        raise self._stop(f"{actor.name} never comes to settle it")

    def do_crash(self, step: Step) -> None:
        """`crash w1 while running a`."""
        actor = self._actor(step.actor)
        if step.point is not None:
            self._bring(actor, step.point, step.job)
        if not actor.alive:
            raise self._stop(f"{actor.name} is {actor.state.name.lower()}")
        at = actor.request.point if actor.request is not None else ""
        self.recorder.fault(actor.name, "crash", {"at": at, "after": False})
        self.kernel.crash(actor)

    def do_restart(self, step: Step) -> None:
        """`restart w1`."""
        actor = self._actor(step.actor)
        if actor.alive:
            raise self._stop(f"{actor.name} is alive")
        self.world.stopping.discard(actor.name)
        self.kernel.start(actor)

    def do_pause(self, step: Step) -> None:
        """`w1 pauses while running a`."""
        actor = self._actor(step.actor)
        if step.point is not None:
            self._bring(actor, step.point, step.job)
        at = actor.request.point if actor.request is not None else ""
        self.recorder.fault(actor.name, "pause", {"at": at, "for": 3650 * 24 * 3600 * 1_000_000})
        self.kernel.hold(actor)

    def do_resume(self, step: Step) -> None:
        """`w1 continues`."""
        actor = self._actor(step.actor)
        if actor.state is not State.HELD:
            raise self._stop(f"{actor.name} was not paused")
        self.kernel.unhold(actor)

    def do_stop(self, step: Step) -> None:
        """`stop w1`: a graceful shutdown."""
        actor = self._actor(step.actor)
        at = actor.request.point if actor.request is not None else ""
        self.recorder.fault(actor.name, "stop", {"at": at})
        self.world.stopping.add(actor.name)
        if actor.state is State.POLLING:
            self.kernel.summon(actor)

    def do_lose(self, step: Step) -> None:
        """`w1 loses the reply before completing a`."""
        actor = self._at_call(step)
        self.recorder.fault(actor.name, f"lose {step.verb}", {"at": step.point})
        self._perform(actor, heard=False, happens=step.verb == "reply")

    def do_twice(self, step: Step) -> None:
        """`w1 delivers twice before completing a`."""
        actor = self._at_call(step)
        self.recorder.fault(actor.name, "duplicate", {"at": step.point})
        self._perform(actor, times=2)

    def _at_call(self, step: Step) -> Actor:
        actor = self._actor(step.actor)
        self._bring(actor, step.point or "", step.job)
        if type(actor.request) is not Call:
            raise self._stop(f"{step.point!r} is no call: no message can be lost or doubled there")
        return actor

    def do_advance(self, step: Step) -> None:
        """`advance 15m`: time passes and everything due happens."""
        self.kernel.run_until(self.kernel.now + _given(step.duration))

    def do_jump(self, step: Step) -> None:
        """`jump 1h`: the clock moves and nobody acts."""
        duration = _given(step.duration)
        self.recorder.fault("*", "late", {"for": duration})
        self.kernel.move_to(self.kernel.now + duration)

    def do_run(self, step: Step) -> None:
        """`run until idle`."""
        self._idle()

    def do_upkeep(self, step: Step) -> None:
        """`maintenance runs twice`, `queue runs`."""
        verbs = ("expire",) if step.actor == "queue" else ("reconcile", "rescue", "purge")
        for _ in range(2 if step.verb == "twice" else 1):
            for verb in verbs:
                self._operate(Call(verb, ()))

    def do_enqueue(self, step: Step) -> None:
        """`enqueue b`."""
        plan = self.world.plan(step.job or "")
        if self.recorder.history.of_job(plan.name):
            plan_again = request_of(plan, plan.name, self.world, OPERATOR)
            self._expect(step, self._operate(Call("enqueue", (plan_again,), plan.name)))
            return
        name = f"client-{plan.name}"
        actor = self.kernel.actors.get(name) or self.kernel.spawn(name, lambda: client(self.world, plan))
        self._bring(actor, "enqueue", None)
        self._expect(step, self._perform(actor))

    def do_cancel(self, step: Step) -> None:
        """`cancel a -> done`."""
        self._expect(step, self._operate(Call("cancel", (step.job,), step.job)))

    def do_retry(self, step: Step) -> None:
        """`retry a -> done`."""
        self._expect(step, self._operate(Call("retry", (step.job,), step.job)))

    def _operate(self, call: Call) -> Outcome | None:
        def once() -> Any:
            yield call

        return self._perform(self.kernel.spawn(OPERATOR, once))

    def do_check(self, step: Step) -> None:
        """`a is PENDING`."""
        view = self.world.board.views.get(step.job or "")
        got = "gone" if view is None else str(view.status)
        if got != step.expect:
            self._fail(f"it is {got}")

    def do_clock(self, step: Step) -> None:
        """`store clock is 5s ahead`."""
        offset = _given(step.duration) * (1 if step.verb == "ahead" else -1)
        whose = step.actor or "store"
        self.recorder.fault("*" if whose == "store" else whose, "clock", {"whose": whose, "offset": offset})
        if whose == "store":
            self.clocks.set_offset(whose, offset)
        else:
            self.clocks.set_offset(self._actor(whose).name, offset)

    # the end --------------------------------------------------------------------------------------------------------

    def judge(self) -> list[str]:
        """Compare what came out with what the scenario expects, unless a step could not be done."""
        if self._stopped:
            return []
        return [
            f"{self._where(expected.line)}{job}: {problem}"
            for job, expected in self.scenario.expect.items()
            for problem in self._problems(job, expected)
        ]

    def _problems(self, job: JobId, expected: Expectation) -> list[str]:
        history = self.recorder.history
        view = self.world.board.views.get(job)
        got: dict[str, Any] = {
            "status": "gone" if view is None else str(view.status),
            "attempts": None if view is None else view.attempts,
            "runs": history.runs(job),
            "path": tuple(history.path(job)),
            "output": None if view is None else view.output,
        }
        problems = [
            f"expected {name} {_words(wanted)}, got {_words(got[name])}"
            for name in got
            if (wanted := getattr(expected, name)) is not None and wanted != got[name]
        ]
        error = None if view is None else view.error
        if expected.error is not None and expected.error not in (error or ""):
            problems.append(f"expected an error with {expected.error!r}, got {error!r}")
        if expected.gaps is not None:
            problems.extend(_gap_problems(gaps(history, job), expected.gaps))
        return problems


def gaps(history: History, job: JobId) -> list[Duration]:
    """Answer how long a job waited between the end of one attempt and the start of the next."""
    waits: list[Duration] = []
    since: Instant | None = None
    for event in history.of_job(job):
        if type(event) is Observed and event.before is not None and event.after is not None:
            if str(event.before.status) == "PROCESSING" and str(event.after.status) == "PENDING":
                since = event.at
        elif type(event) is Effect and event.name == "started" and since is not None:
            waits.append(event.at - since)
            since = None
    return waits


def _gap_problems(got: list[Duration], wanted: tuple[tuple[Duration, Duration], ...]) -> list[str]:
    if len(got) != len(wanted):
        return [f"expected {len(wanted)} gaps between attempts, got {len(got)}: {', '.join(map(format_duration, got))}"]
    return [
        f"gap {number}: expected {format_duration(low)} to {format_duration(high)}, got {format_duration(gap)}"
        for number, (gap, (low, high)) in enumerate(zip(got, wanted, strict=True), start=1)
        if not low <= gap <= high
    ]


def _given(duration: Duration | None) -> Duration:
    if duration is None:
        raise UsageError("this step needs a duration")
    return duration


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


__all__ = ["Director", "gaps"]
