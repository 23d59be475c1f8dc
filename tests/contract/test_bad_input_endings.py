"""Whoever is stopped, and however, leaves no server and no folder; what was found is kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.leftovers import COMMAND, Place, clean_place

from job_harness.worlds.patience import Deadline

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

ONE = "format: 1\ntitle: one job\njobs:\n  a: {}\n"
SUITE = """
import time
def test_first(job_postgres):
    print("at work", flush=True)
    time.sleep(20)
"""
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
"""Hypothesis's plugin imports all of Hypothesis for its summary, stopped or not: seconds of work on a busy machine."""
RUN = (*COMMAND, "run", "scenarios", "--engine", "memory,postgres")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with clean_place(tmp_path) as made:
        made.write("one.yaml", ONE)
        yield made


def many(place: Place, count: int = 300) -> None:
    """Give a run enough to do that it is still at work when it is stopped."""
    for number in range(count):
        place.write(f"scenarios/{number:03}.yaml", ONE)


def pause(seconds: float) -> None:
    deadline = Deadline(seconds)
    while not deadline.passed:
        deadline.pause(seconds / 10)


@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGINT, 0.15), (signal.SIGTERM, 0.5), (signal.SIGINT, None), (signal.SIGTERM, None)],
)
def test_a_run_that_is_stopped_prints_what_it_found(place: Place, number: signal.Signals, after: float | None) -> None:
    many(place)
    child = place.start(RUN)
    if after is None:
        assert place.server_of(child) is not None
        pause(0.3)
    else:
        pause(after)
    place.processes()
    child.send_signal(number)
    ended = place.end(child)
    # Before our code runs, the interpreter's own start-up answers the signal in its own way.
    assert ended.code != 0, ended
    if after is None:
        assert ended.code == (130 if number is signal.SIGINT else 143), ended
        assert "pass" in ended.out
        assert "Traceback" not in ended.said


def test_a_killed_run_leaves_nothing(place: Place) -> None:
    many(place)
    child = place.start(RUN)
    assert place.server_of(child) is not None
    child.kill()
    child.wait()
    place.assert_clean()


def test_a_server_killed_in_mid_run_costs_only_its_own_cases(place: Place) -> None:
    many(place)
    child = place.start(RUN)
    server = place.server_of(child)
    assert server is not None
    pause(0.3)
    os.kill(server, signal.SIGKILL)
    ended = place.end(child)
    assert ended.code == 4
    assert "300 pass" in ended.said or "pass," in ended.said
    assert "PostgreSQL" in ended.said
    assert "Traceback" not in ended.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_exploration_that_is_stopped_leaves_nothing(place: Place, number: signal.Signals) -> None:
    child = place.start([*COMMAND, "explore", "postgres", "--runs", "100000"])
    assert place.server_of(child) is not None
    pause(0.3)
    child.send_signal(number)
    ended = place.end(child)
    assert ended.code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert "Traceback" not in ended.said


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGINT, ("-n", "1")),
        (signal.SIGKILL, ("-n", "1")),
    ],
)
def test_a_pytest_run_that_is_stopped_leaves_nothing(
    place: Place, number: signal.Signals, workers: tuple[str, ...]
) -> None:
    place.write("test_it.py", SUITE)
    child = place.start([sys.executable, "-m", "pytest", "-q", *ALONE, *workers, "test_it.py"])
    assert place.server_of(child) is not None
    if number is signal.SIGINT:  # a terminal sends it to everybody in the foreground
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    ended = place.end(child)
    assert ended.code == (2 if number is signal.SIGINT else -number)


def test_two_first_runs_at_once_both_succeed(place: Place) -> None:
    cache = place.folder / "cache"
    commands = [[*COMMAND, "run", "one.yaml", "--engine", "memory,postgres"]] * 2
    children = [place.start(command, JOB_HARNESS_CACHE=str(cache)) for command in commands]
    for child in children:
        ended = place.end(child)
        assert ended.code == 0, ended
    assert not list(cache.glob(".pg-*")), "a half-made image was left"


def test_a_home_that_is_unset_or_read_only_is_gone_around(place: Place) -> None:
    ended = place.run("run", "one.yaml", "--engine", "postgres", without=["HOME"], XDG_CACHE_HOME="/proc/nowhere")
    assert ended.code == 0, ended


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://u@127.0.0.1:1/x", "refused"),
        ("no dsn at all", "JOB_HARNESS_DSN"),
        ("postgresql://[bad", "JOB_HARNESS_DSN"),
    ],
)
def test_a_dsn_that_does_not_answer_is_an_environment_error(place: Place, dsn: str, words: str) -> None:
    ended = place.run("run", "one.yaml", "--engine", "memory,postgres", JOB_HARNESS_DSN=dsn)
    assert ended.code == 4
    assert words in ended.said
    assert "the database given by JOB_HARNESS_DSN does not answer" in ended.said
    assert "1 pass" in ended.said
    assert "Traceback" not in ended.said


def test_a_port_that_accepts_and_never_speaks_is_given_up(place: Place) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=2"
        ended = place.run("run", "one.yaml", "--engine", "postgres", JOB_HARNESS_DSN=dsn)
    assert ended.code == 4
    assert "timeout" in ended.said


def test_a_full_disk_is_said_and_leaves_nothing(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    checkout = str(Path(sys.prefix).parent)
    script = (
        'exec 9<"$0" && '
        "mount -t tmpfs -o size=1m,mode=1777 f /dev/shm && mount -t tmpfs -o size=1m,mode=1777 f /tmp && "
        "mount -t tmpfs -o size=1m,mode=1777 f /var/tmp && "
        # A checkout that lies below one of these is put back where it was.
        '{ [ -d "$0" ] || { mkdir -p "$0" && mount -c --bind /proc/self/fd/9 "$0"; }; } && exec "$@"'
    )
    tried = ["unshare", "--mount", "sh", "-c", script, checkout]
    if subprocess.run([*tried, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is forbidden here")
    command = [*tried, *COMMAND, "run", "one.yaml", "--engine", "memory,postgres"]
    ended = place.end(place.start(command, TMPDIR="/tmp"))
    assert ended.code == 4, ended
    assert "/dev/shm has" in ended.said
    assert "MB free of" in ended.said
    assert "Set TMPDIR" in ended.said or "JOB_HARNESS_DSN" in ended.said
    assert "1 pass" in ended.said
