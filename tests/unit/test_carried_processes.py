"""Processes of coroutines in the kernel's schedule: gates, crashes, pauses, cancellation, time that runs late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.sim.actor import Actor, State
from job_harness.core.sim.carrier import CarriedProcess, LoopCarrier
from job_harness.core.sim.choices import Boring, Choices, Deviation, Replay
from job_harness.core.sim.kernel import Kernel
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.core.sim.request import Point, Poll, Sleep, VerbCall

Task = Callable[["Stage", CarriedProcess], Coroutine[Any, Any, None]]


class Stage:
    """A kernel, a loop in its hands, and what everybody did."""

    def __init__(self, choices: Choices | None = None) -> None:
        self.kernel = Kernel(choices or Boring(), self)
        self.carrier = LoopCarrier(self.kernel, VirtualLoop())
        self.log: list[str] = []

    def begin(self, actor: Actor, call: VerbCall) -> Any:
        self.say(f"{actor.name} {call.point}")
        return call.verb

    def end(self, actor: Actor, call: VerbCall, result: Any) -> Any:
        return result if actor.heard else "unheard"

    def raised(self, actor: Actor, call: VerbCall, error: Exception) -> Any:
        raise error

    def lost(self, actor: Actor, call: VerbCall) -> Any:
        return "lost"

    def say(self, text: str) -> None:
        self.log.append(f"{self.kernel.now // SECOND}s {text}")

    def process(self, name: str, *tasks: Task) -> CarriedProcess:
        def begin(life: Lifetime) -> None:
            for task in tasks:
                life.context().run(self.carrier.loop.create_task, task(self, process))

        process = self.carrier.planned(name, begin)
        process.start()
        return process

    def finish(self, steps: int = 200) -> list[str]:
        while steps and self.kernel.step():
            steps -= 1
        self.carrier.close()
        return self.log


def working(job: str, *, seconds: int = 10) -> Task:
    async def work(stage: Stage, process: CarriedProcess) -> None:
        await process.gate(Sleep(seconds * SECOND, f"running {job}"))
        stage.say(f"{process.name} hears {await process.gate(VerbCall('complete', (), job))}")

    return work


def generator(stage: Stage, *points: str) -> Callable[[], Any]:
    def act() -> Any:
        for point in points:
            yield Point(point)
            stage.say(point)

    return act


def test_tasks_stand_in_line_with_everybody_else_first_come_first_served() -> None:
    stage = Stage()
    stage.kernel.spawn("first", generator(stage, "a"))
    stage.process("w1", working("x", seconds=0), working("y", seconds=0))
    stage.kernel.spawn("last", generator(stage, "b"))
    assert stage.finish() == [
        "0s a", "0s b", "0s w1 complete x", "0s w1 hears complete", "0s w1 complete y", "0s w1 hears complete"
    ]  # fmt: skip


def test_a_choice_lets_the_other_task_of_a_process_or_another_actor_go_first() -> None:
    tape = [Deviation("w1 complete x", 1, "late first"), Deviation("w1 complete x", 2, "others first")]
    stage = Stage(Replay(tape))
    stage.process("w1", working("x"), working("y"))

    def late() -> Any:
        yield Sleep(10 * SECOND, "waiting")
        yield Point("late")
        stage.say("late")

    stage.kernel.spawn("late", late)
    log = stage.finish()
    assert [line for line in log if "hears" not in line] == ["10s late", "10s w1 complete y", "10s w1 complete x"]
    assert stage.kernel.choices.tape == tape


def test_a_crash_at_one_gate_ends_every_task_and_a_new_activation_begins() -> None:
    stage = Stage()
    process = stage.process("w1", working("x"), working("y"))
    stage.kernel.run_until(9 * SECOND)
    (task, _) = stage.carrier.tasks(process.actor)
    stage.kernel.crash(task)
    assert (process.actor.state, stage.kernel.next_wake()) == (State.CRASHED, None)
    stage.kernel.start_later(task, 5 * SECOND)
    assert [line for line in stage.finish() if "hears" not in line] == ["24s w1 complete x", "24s w1 complete y"]


@pytest.mark.parametrize("pauses", [1, 2])
def test_a_pause_holds_all_tasks_and_what_was_about_to_be_sent_is_sent_first(pauses: int) -> None:
    async def watch(stage: Stage, process: CarriedProcess) -> None:
        await asyncio.sleep(30)
        stage.say("timer")

    stage = Stage()
    process = stage.process("w1", working("x"), working("y", seconds=20), watch)
    stage.kernel.run_until(9 * SECOND)
    stage.kernel.move_to(10 * SECOND)
    stage.kernel.step()
    for _ in range(pauses):
        stage.kernel.pause(stage.carrier.tasks(process.actor)[-1], MINUTE)
        stage.kernel.move_to(stage.kernel.now + MINUTE)
        stage.kernel.step()
    end = 10 + 60 * pauses
    assert stage.finish() == [
        f"{end}s w1 complete x", f"{end}s w1 hears complete", f"{end}s timer",
        f"{end}s w1 complete y", f"{end}s w1 hears complete",
    ]  # fmt: skip


def test_a_task_that_is_cancelled_at_its_gate_is_taken_off_the_schedule() -> None:
    async def give_up(stage: Stage, process: CarriedProcess) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await process.gate(Sleep(MINUTE, "waiting"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await process.gate(Poll(MINUTE, lambda: None))
        stage.say("gave up")

    stage = Stage()
    process = stage.process("w1", give_up)
    assert stage.finish() == ["10s gave up"]
    assert (stage.carrier.tasks(process.actor), stage.kernel.next_wake()) == ([], None)


def test_where_everybody_is_late_nothing_happens_at_an_instant_that_is_over() -> None:
    async def beat(stage: Stage, process: CarriedProcess) -> None:
        for _ in range(2):
            await asyncio.sleep(10)
            stage.say("beat")

    stage = Stage()
    stage.process("w1", beat)
    stage.kernel.move_to(MINUTE)
    assert stage.finish() == ["60s beat", "70s beat"]


def test_a_process_that_ends_leaves_nothing_behind_and_one_that_raises_ends_the_run() -> None:
    async def end(stage: Stage, process: CarriedProcess) -> None:
        await asyncio.sleep(1)
        process.end()

    async def fail(stage: Stage, process: CarriedProcess) -> None:
        stage.carrier.broken(ValueError("broken"))

    stage = Stage()
    process = stage.process("w1", end, working("x"))
    assert stage.finish() == []
    assert process.actor.state is State.ENDED
    stage = Stage()
    with pytest.raises(ValueError, match="broken"):
        stage.process("w1", fail)
    stage.carrier.close()
