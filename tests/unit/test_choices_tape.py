"""Tapes: what is written down, and what a replay answers."""

from __future__ import annotations

from job_harness.core.run.play import play
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Boring, Choices, Deviation, Option, Replay, Uniform
from job_harness.engines.memory import MemoryEngine

OFFERED = (Option("crash", "crash"), Option("pause", "pause"))


def ask(choices: Choices, *labels: str) -> list[str | None]:
    answers = [choices.gate(label, lambda: OFFERED) for label in labels]
    return [None if answer is None else answer.words for answer in answers]


def test_the_boring_answer_is_never_written_down() -> None:
    boring = Boring()
    assert ask(boring, "a", "b") == [None, None]
    assert boring.pick("jitter", ("0", "1/2")) == "0"
    assert boring.tape == []


def test_a_replay_of_what_was_drawn_answers_the_same() -> None:
    drawn = Uniform(3, rate=0.5)
    labels = ("a", "b", "a", "a", "b") * 5
    answers = ask(drawn, *labels)
    replay = Replay(drawn.tape)
    assert ask(replay, *labels) == answers
    assert replay.tape == drawn.tape
    assert replay.unused == []


def test_an_inserted_question_with_another_label_moves_nothing() -> None:
    tape = (Deviation("a", 2, "crash"),)
    assert ask(Replay(tape), "a", "a") == [None, "crash"]
    assert ask(Replay(tape), "new", "a", "new", "a") == [None, None, None, "crash"]


def test_a_replay_lists_what_never_came_up_or_has_no_such_option() -> None:
    never, no_option = Deviation("z", 1, "crash"), Deviation("a", 1, "explode")
    replay = Replay((never, no_option))
    assert ask(replay, "a") == [None]
    assert set(replay.unused) == {never, no_option}


def test_options_are_computed_only_where_they_are_wanted() -> None:
    def never() -> tuple[Option, ...]:
        raise AssertionError("nobody wanted them")

    assert Boring().gate("a", never) is None
    assert Replay(()).gate("a", never) is None
    assert Uniform(1, rate=0.0).gate("a", never) is None


def test_what_never_came_up_is_told_with_what_did_of_the_same_process() -> None:
    scenario = Scenario(jobs=(JobPlan("a"),), tape=(Deviation("w1 commit update", 1, "crash"),))
    (told,) = play(scenario, engine=MemoryEngine()).uncovered
    assert told.startswith("cannot be replayed: `w1 commit update #1: crash` never came up here; of w1 these did: ")
    assert "`w1 running a`" in told
    assert "w2" not in told


def test_of_two_deviations_for_one_question_the_other_is_named_as_unused() -> None:
    replay = Replay((Deviation("jitter", 1, "1/4"), Deviation("jitter", 1, "1/2"), Deviation("jitter", 1, "1/2")))
    assert replay.pick("jitter", ["0", "1/4", "1/2"]) == "1/2"
    assert replay.unused == [Deviation("jitter", 1, "1/4")]
