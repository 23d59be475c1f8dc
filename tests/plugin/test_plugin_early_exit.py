"""A processor that ends the process does not end pytest with exit code 0."""

from __future__ import annotations

import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("file", ["test_it.py", "s.yaml"])
def test_it_is_told_and_no_pass(pytester: pytest.Pytester, file: str) -> None:
    (pytester.path / "hostile.py").write_text(PROCESSOR)
    (pytester.path / file).write_text(TEST if file == "test_it.py" else SCENARIO)
    ended = pytester.runpytest_subprocess(file)
    assert ended.ret == 3
    ended.stdout.fnmatch_lines([f"*{file}*something that it ran called os._exit(0); nothing more was judged"])
