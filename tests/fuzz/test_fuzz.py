"""The fuzzers see what they are for: each rule is broken on purpose once; what they found once stays repaired."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st
from tests.fuzz import judging
from tests.fuzz.campaign import fuzz, judged, kept_inputs
from tests.fuzz.fuzzers import FUZZERS, Fuzzer, judge_token
from tests.fuzz.judging import RULES, Fault, read, said_by

BY_NAME = {fuzzer.name: fuzzer for fuzzer in FUZZERS}


def says(text: str, code: int = 0) -> Callable[[list[str]], int]:
    def run(arguments: list[str]) -> int:
        print(text)
        return code

    return run


def raises(arguments: list[str]) -> int:
    raise KeyError("planted")


def writes_half_a_document(arguments: list[str]) -> int:
    Path("report.json").write_text("{")
    return 0


def computes(arguments: list[str]) -> int:
    until = time.process_time() + 0.06
    while time.process_time() < until:
        pass
    return 0


def waits(arguments: list[str]) -> int:
    time.sleep(30)
    return 0


PLANTED = {
    "traceback": raises,
    "exit code": says("", 7),
    "too long": computes,
    "hang": waits,
    "too much": says("x" * (judging.LARGEST_OUTPUT + 1)),
    "raw signs": says("\x1b[31mred"),
    "broken document": writes_half_a_document,
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_failure_breaks_its_rule(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.05)
    if rule == "hang":
        monkeypatch.setattr(judging, "HANG_SECONDS", 0.2)
    with pytest.raises(Fault) as told:
        said_by(folder=tmp_path, documents=("report.json",), run=PLANTED[rule])
    assert told.value.rule == rule


@pytest.mark.parametrize("text", ["::error::owned", "  ::add-mask::x", "Traceback (most recent call last)", "a\rb"])
def test_a_line_that_somebody_obeys_is_seen(text: str, tmp_path: Path) -> None:
    with pytest.raises(Fault):
        said_by(folder=tmp_path, run=says(text))


def test_a_pass_that_played_something_else_is_a_false_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = read(next(path for path in kept_inputs() if path.name.startswith("token")))
    assert judged(BY_NAME["token"], files, tmp_path / "right") is None

    def plays_nothing(command: str, file: str, token: str, *more: str, **named: object) -> judging.Said:
        return said_by(command, file, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("tests.fuzz.fuzzers.said_by", plays_nothing)
    fault = judged(Fuzzer("token", "", BY_NAME["token"].inputs, judge_token), files, tmp_path / "wrong")
    assert fault is not None
    assert fault.rule == "false green"


@pytest.mark.parametrize("kept", kept_inputs(), ids=lambda path: path.stem)
def test_what_was_found_once_stays_repaired(kept: Path, tmp_path: Path) -> None:
    assert judged(BY_NAME[kept.stem.partition("-")[0]], read(kept), tmp_path / "input") is None


@pytest.mark.slow
def test_a_failing_input_is_made_small_and_kept_and_a_death_is_told(tmp_path: Path) -> None:
    def judge(folder: Path) -> None:
        said = (folder / "a").read_bytes()
        if len(said) > 3:
            raise Fault("wrong answer", "too long for it", place="here")

    inputs = st.fixed_dictionaries({"a": st.binary(max_size=40)})
    fuzzed = fuzz(Fuzzer("planted", "", lambda: inputs, judge), seed=1, seconds=60, batches=1, keep=tmp_path)
    (finding,) = fuzzed.findings
    assert finding.rule == "wrong answer"
    assert read(Path(finding.folder)) == {"a": b"\0\0\0\0"}

    dying = fuzz(
        Fuzzer("dying", "", lambda: inputs, lambda folder: os._exit(3)), seed=1, seconds=60, batches=1, keep=tmp_path
    )
    assert [finding.rule for finding in dying.findings] == ["death"]
    assert {"death", "false green", "wrong answer", *PLANTED} == set(RULES)
