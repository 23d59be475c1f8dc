"""Plays the steps of a scenario: brings actors to points, lets time pass, and checks what was asserted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from job_harness.core.faults.clocks import CLOCK_OFFSET, LATENESS
from job_harness.core.faults.messages import DELAYED_MESSAGE, DUPLICATE, LOST_MESSAGE, courier
from job_harness.core.faults.outages import OUTAGE
from job_harness.core.faults.processes import CRASH, PAUSE, SHUTDOWN
from job_harness.core.history import OF_DEPLOY, Effect, History, Observed, Outcome, Return
from job_harness.core.model import FAILED, Duration, Instant, JobId, format_duration, json_problem, same_json
from job_harness.core.run.context import RunContext
from job_harness.core.run.observation import Recorder
from job_harness.core.run.stock import client, request_of
from job_harness.core.scenario.scenario import Expectation, Scenario, Step
from job_harness.core.sim import EVERYBODY, Actor, Clocks, Kernel, Replay, State, VerbCall
from job_harness.errors import UsageError

PATIENCE = 20_000
"""Kernel steps that one scenario step may take to bring an actor to its point."""
OPERATOR = "operator"


class Stopped(Exception):
    """A step cannot be done; the rest of the scenario makes no sense."""


class JobFates:
    """What became of jobs, as the history says, beside what the scenario expects."""

    def __init__(self, scenario: Scenario, world: RunContext, recorder: Recorder) -> None:
        self.scenario = scenario
        self.world = world
        self.recorder = recorder

    def where(self, line: int) -> str:
        """Return the place of a line of the scenario, where it has a file."""
        return f"{self.scenario.path}:{line}: " if self.scenario.path else ""

    def claimed_instead(self, actor: Actor, job: JobId | None) -> str:
        """Tell who claimed the job while this worker claimed another one, and how to let this worker get it."""
        claims = [event for event in self.recorder.history if type(event) is Observed and event.verb == "claim"]
        takers = dict.fromkeys(event.actor for event in claims if event.job == job)
        other = next((event.job for event in claims if event.actor == actor.name), None)
        if not takers or actor.name in takers or other is None:
            return ""
        taker = " and ".join(takers)
        return f": {taker} claimed it, {actor.name} claimed {other}. Send {other} later (`at: 5s`), or name {taker}"

    def fate(self, job: JobId | None) -> str:
        """Tell what became of a job that an actor was awaited at."""
        if job is None:
            return ""
        history = self.recorder.history
        path = " ".join(history.path(job)) or "nowhere"
        runners = dict.fromkeys(
            event.actor for event in history.of_job(job) if type(event) is Effect and event.name == "started"
        )
        return f". {job} went {path}, " + (f"run by {', '.join(runners)}" if runners else "and was never run")

    def status(self, job: JobId | None) -> str:
        """Return the status of a job."""
        view = self.world.job_index.views.get(job or "")
        return "gone" if view is None else str(view.status)

    def judge(self) -> list[str]:
        """Say what came out otherwise than the scenario expects."""
        problems = [
            f"{self.where(expected.line)}{job}: {problem}"
            for job, expected in self.scenario.expect.items()
            for problem in self._problems(job, expected)
        ]
        return [*problems, *self._unexpected()]

    def _unexpected(self) -> Iterator[str]:
        """Name the jobs of real processors that FAILED and of which the scenario does not say how they end."""
        said = {
            job for job, each in self.scenario.expect.items() if (each.status, each.path, each.error) != (None,) * 3
        }
        said |= {step.job for step in self.scenario.steps if step.expect is not None and step.job is not None}
        for job, view in self.world.job_index.views.items():
            if view.status is FAILED and view.tool in self.scenario.processors and job not in said:
                plan = self.scenario.processors[view.tool]
                told = f"{job} ended FAILED ({view.error or 'no error'}), and nothing says that it may"
                yield f"{plan.place}: {told}; if it may: `expect: {{{job}: {{status: FAILED}}}}`"

    def _problems(self, job: JobId, expected: Expectation) -> list[str]:
        history = self.recorder.history
        view = self.world.job_index.views.get(job)
        got: dict[str, Any] = {
            "status": "gone" if view is None else str(view.status),
            "attempts": None if view is None else view.attempts,
            "runs": history.runs(job),
            "path": tuple(history.path(job)),
            "output": None if view is None else view.output,
            "effects": history.effects(job),
        }
        problems = [
            f"expected {name} {_words(wanted)}, got {_words(got[name])}"
            for name in got
            if (wanted := getattr(expected, name)) is not None
            and (wanted != got[name] or (name == "output" and not _same_output(wanted, got[name])))
        ]
        error = None if view is None else view.error
        if expected.error is not None and expected.error not in (error or ""):
            problems.append(f"expected an error with {expected.error!r}, got {error!r}")
        if expected.gaps is not None:
            problems.extend(_gap_problems(gaps(history, job), expected.gaps))
        return problems


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
        self.fates = JobFates(scenario, world, recorder)
        self._idle = idle
        self._failures: list[str] = []
        self._here: Step | None = None
        self._stopped = False
        self.script: list[tuple[int, Step]] = []
        """Each step that began, with the index of the event that came next."""
        self.played = 0
        """How many steps were done."""

    def run(self) -> list[str]:
        """Play all steps; return what was asserted and did not hold."""
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
        self.script.append((len(self.recorder.history), step))
        getattr(self, f"do_{step.kind}")(step)
        self.played += 1

    def clients_first(self) -> None:
        """Let those who send at the start send, before the first step.

        No worker is drawn to go before them, since it might run through the job of the first step;
        a tape may say so.
        """
        # No order is drawn here, whatever the seed: a worker that went first could run through
        # the job that the first step is about, and the scenario would fail on a right queue. A
        # replay is let decide, since a tape was found under its own order. A client in the middle
        # of a call is finished first where verbs are stepped: the next client would else act
        # between two statements of one enqueue.
        kernel = self.kernel
        free = kernel.deviations.free_order
        kernel.deviations.free_order = free and isinstance(kernel.choices, Replay)
        while kernel.ready:
            first = kernel.ready[0]
            if first.name.startswith("client-") and not first.process:
                kernel.step()
            elif (amid := _client_amid_call(kernel)) is not None:
                kernel.summon(amid)
            else:
                break
        kernel.deviations.free_order = free

    # what went wrong ------------------------------------------------------------------------------------------------

    def _fail(self, message: str) -> None:
        step = self._here
        assert step is not None
        self._failures.append(f"{self.fates.where(step.line)}{step.text}: {message}")

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

    def _bring(self, actor: Actor, point: str, job: JobId | None) -> Actor:
        """Let this actor act, and time pass where it must wait, until it, or a task of its, stands at the point."""
        self.kernel.unhold(actor)
        for _ in range(PATIENCE):
            there = _stands_at(actor, point, job=job)
            if there is not None:
                return there
            if not actor.alive:
                raise self._stop(f"{actor.name} is {actor.state.name.lower()}")
            able = _able(actor, polls=point == "claim")
            if able is not None:
                self.kernel.summon(able)
            elif not self.kernel.step():
                break
        at = place_of(actor) or "nothing"
        wanted = f"{point} {job or ''}".strip()
        why = self.fates.claimed_instead(actor, job) or f"; it stands at {at!r}{self.fates.fate(job)}"
        raise self._stop(f"{actor.name} never reached {wanted!r}{why}")

    def _brought(self, step: Step) -> Actor:
        """Return the actor of a step, or its task, at the point that the step names, if it names one."""
        actor = self._actor(step.actor)
        return actor if step.point is None else self._bring(actor, step.point, step.job)

    def _perform(self, actor: Actor, **how: Any) -> Outcome | None:
        """Let the actor do the call that it stands before; return its outcome as the queue gave it."""
        before = len(self.recorder.history)
        self.kernel.summon(actor, **how)
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
            self.kernel.summon(self._bring(actor, "start", step.job))
        elif verb == "settle":
            self._end_claim(actor, step)
        else:
            self._expect(step, self._perform(self._bring(actor, verb, step.job)))

    def _claim(self, actor: Actor, step: Step) -> None:
        outcome = self._perform(self._bring(actor, "claim", None))
        got = [claim.job for claim in outcome.value or ()] if outcome is not None and outcome.done else []
        if step.verb == "claim" and step.job is not None and step.job not in got:
            raise self._stop(f"{actor.name} claimed {', '.join(got) or 'nothing'}")
        self._expect(step, outcome)

    def _end_claim(self, actor: Actor, step: Step) -> None:
        for _ in range(PATIENCE):
            there = _stands_at(actor, "complete", "fail", "release", job=step.job)
            if there is not None:
                self._expect(step, self._perform(there))
                return
            able = _able(actor, polls=False)
            if able is not None:
                self.kernel.summon(able)
            elif not self.kernel.step():
                break
        raise self._stop(
            f"{actor.name} never reached the point where it settles {step.job or 'its job'}{self.fates.fate(step.job)}"
        )

    def do_crash(self, step: Step) -> None:
        """`crash w1 while running a`."""
        actor = self._brought(step)
        if not actor.alive:
            raise self._stop(f"{actor.name} is {actor.state.name.lower()}")
        at = place_of(actor)
        self.recorder.fault(actor.name, CRASH.event, {"at": at, "after": False}, actor.line)
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
        actor = self._brought(step)
        at = place_of(actor)
        self.recorder.fault(actor.name, PAUSE.event, {"at": at, "for": 3650 * 24 * 3600 * 1_000_000}, actor.line)
        self.kernel.hold(actor)

    def do_resume(self, step: Step) -> None:
        """`w1 continues`."""
        actor = self._actor(step.actor)
        if actor.state is not State.HELD:
            raise self._stop(f"{actor.name} is not paused")
        self.kernel.unhold(actor)

    def do_suspend(self, step: Step) -> None:
        """`w1 pauses for 5m before completing a`: it goes on by itself."""
        actor = self._brought(step)
        if not actor.alive:
            raise self._stop(f"{actor.name} is {actor.state.name.lower()}")
        length = _given(step.duration)
        self.recorder.fault(actor.name, PAUSE.event, {"at": place_of(actor), "for": length}, actor.line)
        left = actor.wake - self.kernel.now if actor.state is State.SLEEPING else 0
        self.kernel.pause(actor, max(length, left))  # What it waits for goes on meanwhile.

    def do_stop(self, step: Step) -> None:
        """`stop w1`: a graceful shutdown."""
        actor = self._actor(step.actor)
        self.recorder.fault(actor.name, SHUTDOWN.event, {"at": place_of(actor)}, actor.line)
        self.world.ask_to_stop(actor.name)
        if actor.state is State.POLLING:
            self.kernel.summon(actor)
        self.kernel.come_to_rest()

    def do_deploy(self, step: Step) -> None:
        """`deploy w1`: SIGTERM, its grace, SIGKILL, and a new process."""
        actor = self._actor(step.actor)
        self.recorder.fault(actor.name, SHUTDOWN.event, {"at": place_of(actor), OF_DEPLOY: False})
        self.world.deploy(actor.name)
        self.kernel.come_to_rest()

    def do_lose(self, step: Step) -> None:
        """`w1 loses the reply before completing a`."""
        actor = self._at_call(step)
        lost = next(phrase.words for phrase in LOST_MESSAGE.words if phrase.point == step.verb)
        self.recorder.fault(actor.name, lost, {"at": step.point}, actor.line)
        self._perform(actor, heard=False, happens=step.verb == "reply")

    def do_delay(self, step: Step) -> None:
        """`w1 delays the request by 5m before completing a`."""
        actor = self._at_call(step)
        call = actor.request
        assert type(call) is VerbCall
        late = _given(step.duration)
        self.recorder.fault(actor.name, DELAYED_MESSAGE.event, {"at": actor.point, "for": late}, actor.line)
        self._perform(actor, heard=False, happens=False)
        name = f"message {len(self.kernel.actors)} of {actor.name}"
        self.kernel.spawn(name, lambda: courier(VerbCall(call.verb, call.arguments, call.job, call.token), late))

    def do_away(self, step: Step) -> None:
        """`the store is away for 5m`."""
        self.recorder.fault(EVERYBODY, OUTAGE.event, {"at": "", "for": _given(step.duration)})
        self.kernel.cut_off(EVERYBODY, _given(step.duration))

    def do_cut(self, step: Step) -> None:
        """`w1 is cut off for 5m`."""
        actor = self._actor(step.actor)
        self.recorder.fault(actor.name, OUTAGE.event, {"at": place_of(actor), "for": _given(step.duration)}, actor.line)
        self.kernel.cut_off(actor.name, _given(step.duration))

    def do_hold(self, step: Step) -> None:
        """`pause tool mail`, `unpause tool mail`."""
        verb, tool = step.actor or "pause", step.point or ""
        self._operate(VerbCall(verb, (tool,), tool))
        (self.world.job_index.pause if verb == "pause" else self.world.job_index.unpause)(tool)

    def do_wait(self, step: Step) -> None:
        """`wait until a is FAILED`: time passes and everything due happens, until it is."""
        for _ in range(PATIENCE):
            if self.fates.status(step.job) == step.expect:
                return
            if not self.kernel.step():
                break
        raise self._stop(f"{step.job} is {self.fates.status(step.job)}{self.fates.fate(step.job)}")

    def do_twice(self, step: Step) -> None:
        """`w1 delivers twice before completing a`."""
        actor = self._at_call(step)
        self.recorder.fault(actor.name, DUPLICATE.event, {"at": step.point}, actor.line)
        self._perform(actor, times=2)

    def _at_call(self, step: Step) -> Actor:
        actor = self._actor(step.actor)
        actor = self._bring(actor, step.point or "", step.job)
        if type(actor.request) is not VerbCall:
            raise self._stop(f"{step.point!r} is not a call: no message can be lost or doubled there")
        return actor

    def do_advance(self, step: Step) -> None:
        """`advance 15m`: time passes and everything due happens."""
        self.kernel.run_until(self.kernel.now + _given(step.duration))

    def do_jump(self, step: Step) -> None:
        """`jump 1h`: the clock moves and no actor acts."""
        duration = _given(step.duration)
        self.recorder.fault("*", LATENESS.event, {"for": duration})
        self.kernel.move_to(self.kernel.now + duration)

    def do_run(self, step: Step) -> None:
        """`run until idle`."""
        self._idle()

    def do_upkeep(self, step: Step) -> None:
        """`maintenance runs twice`, `queue runs`."""
        verbs = ("expire",) if step.actor == "queue" else ("reconcile", "rescue", "purge")
        for _ in range(2 if step.verb == "twice" else 1):
            for verb in verbs:
                self._operate(VerbCall(verb, ()))

    def do_enqueue(self, step: Step) -> None:
        """`enqueue b`."""
        plan = self.world.plan(step.job or "")
        if self.recorder.history.of_job(plan.name):
            plan_again = request_of(plan, plan.name, self.world, OPERATOR)
            self._expect(step, self._operate(VerbCall("enqueue", (plan_again,), plan.name)))
            return
        name = f"client-{plan.name}"
        actor = self.kernel.actors.get(name) or self.kernel.spawn(name, lambda: client(self.world, plan))
        self._expect(step, self._perform(self._bring(actor, "enqueue", None)))

    def do_cancel(self, step: Step) -> None:
        """`cancel a -> done`."""
        self._expect(step, self._operate(VerbCall("cancel", (step.job,), step.job)))

    def do_retry(self, step: Step) -> None:
        """`retry a -> done`."""
        self._expect(step, self._operate(VerbCall("retry", (step.job,), step.job)))

    def _operate(self, call: VerbCall) -> Outcome | None:
        def once() -> Any:
            yield call

        return self._perform(self.kernel.spawn(OPERATOR, once))

    def do_check(self, step: Step) -> None:
        """`a is PENDING`."""
        got = self.fates.status(step.job)
        if got != step.expect:
            self._fail(f"it is {got}")

    def do_clock(self, step: Step) -> None:
        """`store clock is 5s ahead`."""
        offset = _given(step.duration) * (1 if step.verb == "ahead" else -1)
        whose = step.actor or "store"
        self.recorder.fault("*" if whose == "store" else whose, CLOCK_OFFSET.event, {"whose": whose, "offset": offset})
        if whose == "store":
            self.clocks.set_offset(whose, offset)
        else:
            self.clocks.set_offset(self._actor(whose).name, offset)

    # the end --------------------------------------------------------------------------------------------------------

    def judge(self) -> list[str]:
        """Compare what came out with what the scenario expects, unless a step could not be done."""
        return [] if self._stopped else self.fates.judge()


def _stands_at(actor: Actor, *points: str, job: JobId | None) -> Actor | None:
    """Return who of a process stands at one of these points: itself, or one of its tasks."""
    for task in standing(actor):
        request = task.request
        for point in points:
            wanted = point if job is None or point in ("claim",) else f"{point} {job}"
            if request is None:
                continue
            if request.point == wanted or (job is None and request.point.startswith(f"{point} ")):
                return task
    return None


def _able(actor: Actor, *, polls: bool) -> Actor | None:
    """Return who of a process can act now, the one that came first; with `polls`, also before its poll is due."""
    tasks = standing(actor)
    ready = next((task for task in tasks if task.state is State.READY), None)
    if ready is not None or not polls:
        return ready
    polling = [task for task in tasks if task.state is State.POLLING]
    at_work = any(task.state is State.SLEEPING for task in tasks)
    return polling[0] if polling and not at_work else None


def _client_amid_call(kernel: Kernel) -> Actor | None:
    """Return a client that stands before a statement of a verb: where verbs are stepped, it waits its turn anew."""
    clients = (actor for actor in kernel.ready if actor.name.startswith("client-"))
    return next((actor for actor in clients if actor.call is not None), None)


def _same_output(wanted: Any, got: Any) -> bool:
    return json_problem(got) is not None or same_json(wanted, got)


def standing(actor: Actor) -> Sequence[Actor]:
    """Return what of a process stands at gates: itself; where it is carried, its tasks, in the order they came."""
    return (actor,) if actor.carrier is None or actor.root is not actor else (*actor.carrier.tasks(actor), actor)


def place_of(actor: Actor) -> str:
    """Return where an actor stands, as a history tells it; of a carried process, the gate that tells most."""
    points = [task.request.point for task in standing(actor) if task.request is not None]
    return next((point for point in points if point != "poll"), points[0] if points else "")


def gaps(history: History, job: JobId) -> list[Duration]:
    """Return how long a job waited between the end of one attempt and the start of the next."""
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
