"""A processor that ends the process does not end pytest with exit code 0."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from job_harness.doors.pytest.fixtures import exits_are_told
from job_harness.errors import ExitCode

PROCESSOR = "import os\n\ndef leaves(job):\n    os._exit(0)\n"
TEST = """
from hostile import leaves

def test_it(job_harness):
    job_harness.register("t", leaves)
    job_harness.enqueue("t", {})
    job_harness.drain()
"""
SCENARIO = """
format: 1
title: One
processors: {t: "hostile:leaves"}
jobs: {a: {tool: t}}
expect: {a: {status: COMPLETED}}
"""


@pytest.mark.campaign
@pytest.mark.parametrize("file", ["test_it.py", "s.yaml"])
def test_it_is_told_and_no_pass(pytester: pytest.Pytester, file: str) -> None:
    (pytester.path / "hostile.py").write_text(PROCESSOR)
    (pytester.path / file).write_text(TEST if file == "test_it.py" else SCENARIO)
    ended = pytester.runpytest_subprocess(file)
    assert ended.ret == 3
    ended.stdout.fnmatch_lines([f"*{file}*something that it ran called os._exit(0); nothing more was judged"])


@pytest.mark.parametrize(("status", "code"), [(0, ExitCode.INCONCLUSIVE), (7, 7)])
def test_leaving_is_never_a_pass(status: int, code: int) -> None:
    without_capture = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda name: None))
    child = os.fork()
    if child == 0:
        with exits_are_told(SimpleNamespace(nodeid="a test", config=without_capture)):  # type: ignore[arg-type]
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == code


def test_a_forked_child_leaves_as_it_wants_to(request: pytest.FixtureRequest) -> None:
    leave = os._exit
    with exits_are_told(request.node):
        child = os.fork()
        if child == 0:
            os._exit(0)
        _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    assert os._exit is leave
