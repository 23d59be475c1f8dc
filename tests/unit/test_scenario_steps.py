"""The language of steps: every form is understood, and what is no step is answered with the forms there are."""

from __future__ import annotations

import re

import pytest

from job_harness.core.run.director import Director
from job_harness.core.scenario.scenario import GRAMMAR, parse_step


@pytest.mark.parametrize(("kind", "example"), [(kind, example) for kind, _, example in GRAMMAR])
def test_each_form_is_understood_and_can_be_played(kind: str, example: str) -> None:
    assert parse_step(example).kind == kind
    assert hasattr(Director, f"do_{kind}")


@pytest.mark.parametrize("text", ["", "w1 sings a", "advance", "w1 completes a -> maybe", "a is pending"])
def test_what_is_no_step_is_answered_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="Steps look like"):
        parse_step(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("crash w1 while runing welcome", "'crash w1 while runing welcome' (did you mean 'running'?). Steps"),
        ("a is pending", "(did you mean 'PENDING'?)"),
        ("enque b -> refused", "(did you mean 'enqueue'?)"),
        ("w1 claims a -> maybe", "maybe'. Steps"),
    ],
)
def test_one_mistyped_word_of_a_step_is_named_and_nothing_is_guessed(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_step(text)
