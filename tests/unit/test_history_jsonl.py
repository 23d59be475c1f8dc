"""Histories as JSON lines: what is written reads back, and what is no history is refused with its line."""

from __future__ import annotations

import pytest

from job_harness.core.history.jsonl import dump_history, load_history
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.sampling import Sampler

SEEDS = range(40)


@pytest.fixture(scope="module")
def dumped() -> list[str]:
    sampler = Sampler(MemoryEngine())
    return [dump_history(sampler.sample(seed).history) for seed in SEEDS]


def test_what_is_written_reads_back(dumped: list[str]) -> None:
    for text in dumped:
        assert dump_history(load_history(text.splitlines())) == text


def test_what_was_read_answers_the_same_questions() -> None:
    for seed in SEEDS:
        history = Sampler(MemoryEngine()).sample(seed).history
        read = load_history(dump_history(history).splitlines())
        jobs = {event.job for event in history if getattr(event, "job", None)}
        assert read.views().keys() == history.views().keys()
        assert {job: read.path(job) for job in jobs} == {job: history.path(job) for job in jobs}
        assert {job: read.runs(job) for job in jobs} == {job: history.runs(job) for job in jobs}


def test_the_header_can_tell_about_the_run() -> None:
    assert '"about":{"seed":7}' in dump_history([], about={"seed": 7}).splitlines()[0]


def test_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="first line names the format 'elle'"):
        load_history(['{"format":"elle","version":1}'])


def test_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"version 2; this program reads version 1(?s:.*)Record it again"):
        load_history(['{"format":"job-harness-history","version":2}'])


@pytest.mark.parametrize("keep", [1, 10, -5])
def test_a_truncated_line_is_named(dumped: list[str], keep: int) -> None:
    lines = dumped[0].splitlines()
    with pytest.raises(UsageError, match="line 4 is not an event of a history"):
        load_history([*lines[:3], lines[3][:keep], *lines[4:]])


@pytest.mark.parametrize("line", ['{"kind":"rumour"}', '{"kind":"phase"}', "[]", "7", '{"at":1}'])
def test_a_line_that_is_no_event_is_named(dumped: list[str], line: str) -> None:
    with pytest.raises(UsageError, match="line 2 is not an event of a history"):
        load_history([dumped[0].splitlines()[0], line])


def test_a_line_nested_beyond_pythons_stack_is_named(dumped: list[str]) -> None:
    with pytest.raises(UsageError, match="line 2 is not an event of a history"):
        load_history([dumped[0].splitlines()[0], '{"kind": ' + "[" * 200_000])


def test_a_blank_first_line_hides_no_missing_header() -> None:
    with pytest.raises(UsageError, match="names the format"):
        load_history(["\n", '{"kind": "phase", "at": 0, "name": "chaos"}\n'])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"kind":"phase","at":"soon","name":"chaos"}', "at cannot be 'soon'"),
        ('{"kind":"fault","at":0,"actor":["w1"],"name":"crash","data":null}', r"actor cannot be \['w1'\]"),
        (
            '{"kind":"effect","at":0,"actor":"w1","job":{},"attempt":1,"token":1,"name":"started","data":null}',
            "job cannot",
        ),
    ],
)
def test_a_field_of_another_type_is_refused_with_its_line(dumped: list[str], line: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"line 2 is not an event of a history: {complaint}"):
        load_history([dumped[0].splitlines()[0], line])
