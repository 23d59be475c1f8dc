"""What a process has started is found and ended, whatever way the kernel has of telling it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from job_harness.worlds.peers.peer import children_of, descendants_of, end_tree


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has started")
def test_what_a_process_has_started_is_found_and_ended() -> None:
    before = set(children_of())
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    sleeper = int(shell.stdout.readline())
    try:
        assert set(children_of()) - before == {shell.pid}
        assert {shell.pid, sleeper} <= set(descendants_of(os.getpid()))
    finally:
        end_tree(shell.pid)
        shell.communicate()
    assert not {shell.pid, sleeper} & set(descendants_of(os.getpid()))
    assert set(children_of()) == before
