"""What may travel to JSONB and TEXT, and in which words the rest is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.json_values import DEPTH_LIMIT, check_text, decode, encode, escape_text, through_jsonb

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_passes_unchanged(value: object) -> None:
    assert decode(encode(value)) == value


@given(JSON)
def test_the_way_through_jsonb_is_idempotent(value: object) -> None:
    once = through_jsonb(encode(value))
    assert decode(through_jsonb(once)) == decode(once)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"pages": [1, {"title": "a\x00"}]}, r"\$\.pages\[1\]\.title: .*NUL"),
        (["\udc80"], r"\$\[0\]: a lone surrogate \(U\+DC80\)"),
        ({"a": math.nan}, r"\$\.a: nan is not a JSON number"),
        ({"a": -math.inf}, r"\$\.a: -inf is not a JSON number"),
        ({1: "x"}, "key must be text, not int"),
        ({"a\x00": 1}, "key .*NUL"),
        (object(), r"\$: a Python object is not JSON"),
        (10**4400, r"\$: an integer of more than 4300 digits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_names_the_place_and_the_reason(value: object, words: str) -> None:
    with pytest.raises(InvalidJsonError, match=words):
        encode(value)


def test_depth_and_cycles_are_refused_and_never_overflow_the_stack() -> None:
    deep: list[object] = []
    for _ in range(DEPTH_LIMIT - 1):
        deep = [deep]
    assert decode(encode(deep)) == deep
    twice: list[object] = []
    twice += [twice, twice]
    for value in ([deep], twice):
        with pytest.raises(InvalidJsonError, match="nested deeper"):
            encode(value)


@given(st.text(st.characters()))
def test_any_text_is_made_fit(text: str) -> None:
    check_text(escape_text(text), what="error")


def test_fit_text_is_left_alone() -> None:
    assert escape_text("Größe: 😀 \\x00") == "Größe: 😀 \\x00"
