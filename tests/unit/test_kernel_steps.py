"""The kernel: order, crashes, pauses, polls, messages, and verbs that can be preempted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from job_harness.core.run.session import _strip
from job_harness.core.sim.actor import Actor, State
from job_harness.core.sim.choices import Boring, Choices, Deviation, Option, Replay
from job_harness.core.sim.kernel import Kernel, KernelHooks
from job_harness.core.sim.outside import Pick
from job_harness.core.sim.request import Point, Poll, Sleep, VerbCall, Wait
from job_harness.errors import LimitReached

Steps = Generator[Any, Any, Any]


class Echo:
    """Executes verbs by name and writes down what happened."""

    def __init__(self, **verbs: Callable[..., Any]) -> None:
        self.verbs = verbs
        self.log: list[str] = []

    def begin(self, actor: Actor, call: VerbCall) -> Any:
        self.log.append(f"{actor.name} {call.verb}")
        verb = self.verbs.get(call.verb)
        return call.verb if verb is None else verb()

    def end(self, actor: Actor, call: VerbCall, result: Any) -> Any:
        return result if actor.heard else "unheard"

    def raised(self, actor: Actor, call: VerbCall, error: Exception) -> Any:
        return f"raised {error}"

    def lost(self, actor: Actor, call: VerbCall) -> Any:
        return "lost"


def kernel_of(echo: Echo, choices: Choices | None = None, **limits: int) -> Kernel:
    return Kernel(choices or Boring(), echo, **limits)


def finish(kernel: Kernel) -> None:
    while kernel.step():
        pass


def calling(*verbs: str, heard: list[Any] | None = None) -> Callable[[], Steps]:
    def actor() -> Steps:
        for verb in verbs:
            reply = yield VerbCall(verb, ())
            if heard is not None:
                heard.append(reply)

    return actor


def test_actors_take_turns_in_the_order_in_which_they_came_when_nothing_deviates() -> None:
    echo = Echo()
    kernel = kernel_of(echo)
    kernel.spawn("a", calling("1", "2"))
    kernel.spawn("b", calling("1", "2"))
    finish(kernel)
    assert echo.log == ["a 1", "b 1", "a 2", "b 2"]


def test_a_deviation_lets_another_actor_go_first() -> None:
    echo = Echo()
    kernel = kernel_of(echo, Replay((Deviation("a 1", 1, "b first"),)))
    kernel.spawn("a", calling("1", "2"))
    kernel.spawn("b", calling("1", "2"))
    finish(kernel)
    assert echo.log == ["b 1", "a 1", "b 2", "a 2"]


def test_a_fixed_order_is_not_open_to_choice() -> None:
    kernel = kernel_of(Echo(), replay := Replay((Deviation("a 1", 1, "b first"),)))
    kernel.deviations.free_order = False
    kernel.spawn("a", calling("1"))
    kernel.spawn("b", calling("1"))
    finish(kernel)
    assert len(replay.unused) == 1


def test_a_crash_severs_and_no_finally_runs_before_the_burial() -> None:
    log: list[str] = []

    def careful() -> Steps:
        try:
            yield VerbCall("claim", ())
            yield VerbCall("complete", ())
        finally:
            log.append("finally")
            yield VerbCall("release", ())

    echo = Echo()
    kernel = kernel_of(echo)
    actor = kernel.spawn("w", careful, process=True)
    kernel.step()
    kernel.crash(actor)
    finish(kernel)
    assert actor.state is State.CRASHED
    assert log == []
    kernel.bury()
    assert log == ["finally"]
    assert echo.log == ["w claim"]


def test_a_crashed_actor_comes_back_as_a_new_activation() -> None:
    echo = Echo()
    kernel = kernel_of(echo)
    actor = kernel.spawn("w", calling("1", "2"), process=True)
    kernel.step()
    kernel.crash(actor)
    kernel.start_later(actor, 5)
    finish(kernel)
    assert echo.log == ["w 1", "w 1", "w 2"]
    assert kernel.now == 5


def test_a_paused_actor_stands_still_while_others_go_on() -> None:
    echo = Echo()
    kernel = kernel_of(echo)
    paused = kernel.spawn("a", calling("1"))
    kernel.spawn("b", calling("1", "2"))
    kernel.pause(paused, 100)
    finish(kernel)
    assert echo.log == ["b 1", "b 2", "a 1"]
    assert kernel.now == 100


def test_a_held_sleeper_wakes_late_and_not_before() -> None:
    echo = Echo()

    def sleeper() -> Steps:
        yield Sleep(10, "sleeping")
        yield VerbCall("1", ())

    kernel = kernel_of(echo)
    actor = kernel.spawn("a", sleeper)
    kernel.hold(actor)
    kernel.run_until(50)
    assert echo.log == []
    kernel.unhold(actor)
    kernel.run_until(50)
    assert echo.log == ["a 1"]


def test_a_poll_skips_empty_ticks_and_keeps_to_its_grid() -> None:
    ticks: list[int] = []
    due: list[int | None] = [1_000_001]

    def poller() -> Steps:
        while True:
            yield Poll(10, lambda: due[0], origin=3)
            ticks.append(kernel.now)
            due[0] = None

    kernel = kernel_of(Echo())
    kernel.spawn("p", poller)
    finish(kernel)
    assert ticks == [1_000_003]
    assert kernel.steps < 5


def test_run_until_does_what_is_due_in_the_order_of_time_and_ends_exactly_there() -> None:
    log: list[tuple[int, str]] = []

    def sleeper(name: str, length: int) -> Callable[[], Steps]:
        def actor() -> Steps:
            yield Sleep(length, "sleeping")
            log.append((kernel.now, name))

        return actor

    kernel = kernel_of(Echo())
    for name, length in (("late", 31), ("second", 30), ("first", 10)):
        kernel.spawn(name, sleeper(name, length))
    kernel.run_until(30)
    assert log == [(10, "first"), (30, "second")]
    assert kernel.now == 30


def test_a_lost_request_never_arrives_and_a_lost_reply_is_not_heard() -> None:
    for happens, reply, log in ((False, "lost", []), (True, "unheard", ["w complete"])):
        heard: list[Any] = []
        echo = Echo()
        kernel = kernel_of(echo)
        actor = kernel.spawn("w", calling("complete", heard=heard))
        kernel.ready.remove(actor)
        kernel.perform(actor, heard=False, happens=happens)
        assert heard == [reply]
        assert echo.log == log


def test_a_message_delivered_twice_happens_twice_and_is_answered_once() -> None:
    heard: list[Any] = []
    echo = Echo()
    kernel = kernel_of(echo)
    actor = kernel.spawn("w", calling("complete", heard=heard))
    kernel.ready.remove(actor)
    kernel.perform(actor, times=2)
    assert echo.log == ["w complete", "w complete"]
    assert heard == ["complete"]


def stepped() -> Steps:
    yield Point("first half")
    yield Point("second half")
    return "both halves"


async def awaited() -> str:
    await Point("first half")
    await Point("second half")
    return "both halves"


@pytest.mark.parametrize("verb", [stepped, awaited])
def test_a_verb_is_preempted_at_each_of_its_points(verb: Callable[[], Any]) -> None:
    heard: list[Any] = []
    echo = Echo(transfer=verb)
    kernel = kernel_of(echo)
    worker = kernel.spawn("w", calling("transfer", heard=heard))
    kernel.spawn("other", calling("1"))
    kernel.step()
    assert worker.label == "w first half"
    kernel.step()
    assert echo.log == ["w transfer", "other 1"]
    finish(kernel)
    assert heard == ["both halves"]


def test_a_verb_that_raises_is_an_answer_and_an_actor_that_raises_is_an_error() -> None:
    def broken() -> Steps:
        yield Point("in the middle")
        raise ValueError("no")

    heard: list[Any] = []
    kernel = kernel_of(Echo(transfer=broken))
    kernel.spawn("w", calling("transfer", heard=heard))
    finish(kernel)
    assert heard == ["raised no"]
    kernel.spawn("bad", broken)
    with pytest.raises(ValueError, match="no"):
        finish(kernel)


def test_the_step_limit_names_what_is_next() -> None:
    def restless() -> Steps:
        while True:
            yield Point("going round")

    kernel = kernel_of(Echo(), step_limit=10)
    kernel.spawn("w", restless)
    with pytest.raises(LimitReached, match="still not idle after 10 steps; next would be: w going round"):
        finish(kernel)


class Everywhere:
    """Offers one fault at every gate and before time moves."""

    id = "strike"
    midway = False

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
        return (Option("strike", "strike"),)

    def apply(self, kernel: Kernel, actor: Actor | None, option: Option) -> None:
        if actor is not None:
            kernel.crash(actor)


def test_an_interference_strikes_where_the_tape_says() -> None:
    echo = Echo()
    kernel = kernel_of(echo, Replay((Deviation("a 2", 1, "strike"),)))
    kernel.interferences = [Everywhere()]
    actor = kernel.spawn("a", calling("1", "2"), process=True)
    finish(kernel)
    assert echo.log == ["a 1"]
    assert actor.state is State.CRASHED


class Counter:
    """Says who waits at it when it is told to; stands where a database would."""

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.picks: list[Pick] = []

    def come_to_rest(self) -> list[Pick]:
        picks, self.picks = self.picks, []
        return picks


def waiting(counter: Counter, name: str, log: list[str]) -> Steps:
    yield Point("send")
    yield Wait("update", outside=counter, answered=lambda: name in counter.answered)
    log.append(name)


def letting_go(counter: Counter, *names: str, pick: Pick | None = None) -> Steps:
    yield Sleep(5, "holding the lock")
    counter.answered.update(names)
    if pick is not None:
        counter.picks.append(pick)


def contested(choices: Choices, *, first: str = "a") -> tuple[Kernel, list[str]]:
    counter, log = Counter(), []
    kernel = Kernel(choices, Echo())
    for name in ("a", "b"):
        kernel.spawn(name, lambda name=name: waiting(counter, name, log))  # type: ignore[misc]
    kernel.spawn("holder", lambda: letting_go(counter, first, pick=Pick("lock of holder", ("a", "b"), first)))
    while kernel.step():
        pass
    return kernel, log


def test_a_blocked_actor_leaves_the_schedule_and_time_moves_without_it() -> None:
    kernel, log = contested(Boring())
    assert log == ["a"]
    assert kernel.now == 5
    assert kernel.actors["b"].state is State.BLOCKED
    assert kernel.actors["b"].alive


def test_what_the_outside_picked_is_on_the_tape_unless_it_was_expected() -> None:
    assert contested(Boring(), first="a")[0].choices.tape == []
    assert contested(Boring(), first="b")[0].choices.tape == [Deviation("lock of holder", 1, "b")]


def test_a_replay_says_where_the_outside_picked_otherwise() -> None:
    tape = [Deviation("lock of holder", 1, "b")]
    assert contested(Replay(tape), first="b")[0].surprises == []
    (surprise,) = contested(Replay(tape), first="a")[0].surprises
    assert surprise.startswith("lock of holder #1: the tape has b, this time it was a")
    assert len(contested(Replay([]), first="b")[0].surprises) == 1


def test_a_blocked_actor_can_be_held_and_crashed() -> None:
    counter, log = Counter(), []
    gone: list[tuple[str, int]] = []

    class Hooks(KernelHooks):
        def drop_session(self, actor: Actor, linger: int) -> None:
            gone.append((actor.name, linger))

    kernel = Kernel(Boring(), Echo(), hooks=Hooks())
    actor = kernel.spawn("a", lambda: waiting(counter, "a", log))
    kernel.step()
    kernel.hold(actor)
    counter.answered.add("a")
    assert not kernel.step()
    kernel.unhold(actor)
    assert actor.state is State.READY
    kernel.crash(actor, linger=7)
    assert gone == [("a", 7)]
    assert not kernel.step()
    assert log == []


def test_a_verb_is_heard_of_at_every_gate_within_it() -> None:
    seen: list[str] = []

    def verb() -> Steps:
        yield Point("first")
        yield Point("second")
        return "done"

    class Hooks(KernelHooks):
        def note_gate(self, actor: Actor, call: VerbCall) -> None:
            seen.append(f"{actor.name} {call.verb} at {actor.point}")

    kernel = Kernel(Boring(), Echo(work=verb), hooks=Hooks())
    kernel.spawn("a", lambda: (call for call in [VerbCall("work", ())]))
    while kernel.step():
        pass
    assert seen == ["a work at first", "a work at second"]


def test_a_signal_that_arrives_while_a_run_is_stripped_still_finds_what_is_kept() -> None:
    class Part:
        steps = None

    class Looks:
        def __del__(self) -> None:  # where a handler may run, too
            seen.append(part.steps)

    seen: list[int | None] = []
    part = Part()
    part.other, part.steps = Looks(), 7  # type: ignore[attr-defined, assignment]
    _strip(part, "steps")
    assert (seen, vars(part)) == ([7], {"steps": 7})
