"""A child of ours is asked questions; whatever it does, there is a named error in time and nobody is left behind."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import EnvironmentUnavailable
from harness.foreign import Child, ChildDied

LOOP = """
import json, os, sys, time
def answer(**reply):
    print("@harness " + json.dumps(reply), flush=True)
for line in sys.stdin:
    question = json.loads(line)
"""
Start = Callable[..., Child]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[Child] = []

    def begin(body: str) -> Child:
        code = LOOP + textwrap.indent(textwrap.dedent(body), "    ")
        children.append(Child([sys.executable, "-c", code], name="the child"))
        return children[-1]

    yield begin
    for child in children:
        child.close()
        assert not child.alive


def test_a_question_gets_its_answer(start: Start) -> None:
    child = start("answer(id=question['id'], twice=2 * question['with']['number'])")
    assert child.ask("double", {"number": 21})["twice"] == 42
    assert child.ask("double", {"number": 4})["twice"] == 8


def test_what_it_says_besides_is_no_answer(start: Start) -> None:
    child = start("print('hello'); sys.stderr.write('world\\n'); answer(id=question['id'])")
    assert child.ask("anything")["id"] == 1


def test_a_child_that_dies_is_named_with_its_last_words(start: Start) -> None:
    child = start("print('I cannot go on', flush=True); os._exit(7)")
    with pytest.raises(ChildDied, match=r"the child went away at 'claim' \(exit code 7\)") as died:
        child.ask("claim")
    assert "I cannot go on" in str(died.value)
    assert not child.alive


def test_a_dead_child_takes_no_more_questions(start: Start) -> None:
    child = start("answer(id=question['id']); os._exit(0)")
    child.ask("first")
    with pytest.raises(ChildDied, match="the child"):
        child.ask("second")


def test_a_child_that_does_not_answer_is_ended(start: Start) -> None:
    child = start("time.sleep(60)")
    with pytest.raises(ChildDied, match="did not answer 'claim' in time"):
        child.ask("claim", seconds=0.05)
    assert not child.alive


def test_a_flood_without_an_answer_ends_in_time(start: Start) -> None:
    child = start("while True: sys.stdout.write('x' * 1000 + '\\n')")
    with pytest.raises(ChildDied, match="did not answer 'claim' in time"):
        child.ask("claim", seconds=0.1)
    assert not child.alive


def test_a_flood_before_the_answer_is_passed_over(start: Start) -> None:
    child = start("print('\\n'.join('x' * 99 for _ in range(20000))); answer(id=question['id'])")
    assert child.ask("claim")["id"] == 1


def test_a_late_second_answer_is_not_taken_for_the_next_one(start: Start) -> None:
    child = start("answer(id=question['id'], n=question['id']); answer(id=question['id'], n=-1)")
    assert [child.ask("count")["n"], child.ask("count")["n"]] == [1, 2]


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ("{nonsense", "what is no JSON"),
        ("[1, 2]", "what is no object"),
        ('{"id": 99}', "an answer to nothing"),
        ('{"id": "one"}', "an answer to nothing"),
    ],
)
def test_nonsense_ends_the_child(start: Start, reply: str, complaint: str) -> None:
    child = start(f"print({'@harness ' + reply!r}, flush=True)")
    with pytest.raises(ChildDied, match=complaint):
        child.ask("claim")
    assert not child.alive


def test_killing_leaves_no_process(start: Start) -> None:
    child = start("answer(id=question['id'])")
    child.ask("are you there")
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(EnvironmentUnavailable, match="the child cannot be started"):
        Child(["/nowhere/to/be/found"], name="the child")


def test_what_it_writes_is_for_this_user_alone(start: Start, tmp_path: Path) -> None:
    """Bytecode in a cached package is run by the next child, whatever the umask was when it was written."""
    before = os.umask(0)
    try:
        child = start(f"open({str(tmp_path / 'written')!r}, 'w').close(); answer(id=question['id'])")
        child.ask("write")
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600
