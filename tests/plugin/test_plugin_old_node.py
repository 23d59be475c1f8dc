"""A Node that is too old is a skip with the reason, wherever a test comes to need it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from job_harness.doors.pytest.failure_section import errors_without_traceback
from job_harness.doors.pytest.plugin import _give_up, pytest_runtest_call
from job_harness.errors import EnvironmentUnavailable, ProgramMissing

TEST = """
from job_harness.subjects.processors.contract import ProcessorContract


def test_registers(job_harness):
    job_harness.register("t", "p.ts#go")


class TestProcessor(ProcessorContract):
    processor = "p.ts#go"
    examples = ({},)


def test_fails():
    raise RuntimeError("mine")
"""
SCENARIO = """
format: 1
title: One
processors: {t: "p.ts#go"}
jobs: {a: {tool: t}}
expect: {a: {status: COMPLETED}}
"""


@pytest.mark.campaign
def test_every_test_that_needs_it_is_skipped(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    node = pytester.path / "node"
    node.write_text("#!/bin/sh\necho v12.0.1\n")
    node.chmod(0o755)
    monkeypatch.setenv("JOB_HARNESS_NODE", str(node))
    (pytester.path / "p.ts").write_text("export async function go() { return { success: true, output: {} } }\n")
    (pytester.path / "s.yaml").write_text(SCENARIO)
    pytester.makepyfile(TEST)
    told = pytester.runpytest_inprocess(
        "-rs", "-p", "no:randomly", "test_every_test_that_needs_it_is_skipped.py", "s.yaml"
    )
    outcomes = told.parseoutcomes()
    assert outcomes.pop("skipped") >= 3
    assert outcomes == {"failed": 1}
    told.stdout.fnmatch_lines(["*Node 22.15 or newer is needed for TypeScript*which is 12.0.1*"])


def test_a_test_that_needs_a_program_is_skipped_and_any_other_error_is_its_own() -> None:
    for error, outcome in ((ProgramMissing("Node 22 is needed"), pytest.skip.Exception), (KeyError("mine"), KeyError)):
        running = pytest_runtest_call()
        next(running)
        with pytest.raises(outcome, match=r"Node 22 is needed|mine"):
            running.throw(error)


@pytest.mark.parametrize("dsn_given", [True, False])
def test_an_engine_that_lacks_a_program_is_skipped_whatever_database_is_named(dsn_given: bool) -> None:
    shared = SimpleNamespace(dsn_given=dsn_given)

    def opened() -> None:
        try:
            with errors_without_traceback():
                raise ProgramMissing("Node 22 is needed")
        except EnvironmentUnavailable as error:
            _give_up(error, shared)  # type: ignore[arg-type]

    with pytest.raises(pytest.skip.Exception, match="Node 22 is needed"):
        opened()
