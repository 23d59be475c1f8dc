"""A program under the preload of Python processes waits, draws, starts children and connects as its harness says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.foreign.peer import Peer, PeerLost
from harness.postgres.patience import Deadline
from harness.systems.process import ASKED, PYTHON_PRELOAD

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the preload asks Linux who sleeps")

BEGIN = 1_900_000_000_000
"""What the program's clock shows when it begins, in milliseconds: 17 March 2030, 17:46:40."""


class Ended(NamedTuple):
    """What a program printed last, as JSON, and what it did that is not under control."""

    said: Any
    notes: list[str]


def ended(folder: Path, program: str, *, outside: tuple[str, ...] = (), recorder: int = 1) -> Ended:
    """Run a program to its end; whenever it is at rest, its next timer fires."""
    script, printed, notes = folder / "program.py", list[str](), list[str]()
    script.write_text(program)
    asked = json.dumps({"outside": dict.fromkeys(outside, True), "recorder": recorder})
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PRELOAD), "PYTHONHASHSEED": "0", ASKED: asked}
    peer = Peer([sys.executable, str(script)], name="program", environment=environment, log=printed.append)
    do, told, now, deadline = "begin", {"seed": "a seed"}, BEGIN, Deadline(30)
    try:
        while not deadline.passed:
            *reports, idle = peer.go(do, told, now=now)
            notes += [report["data"]["what"] for report in reports]
            do, told = "rest", {}
            if idle["timers"]:
                number, now, *_ = min(idle["timers"], key=lambda timer: timer[1])
                do, told = "fire", {"timer": number}
    except PeerLost as lost:
        if lost.kind != "died" or peer.exit_code:
            raise
        return Ended(json.loads(printed[-1]), notes + [report["data"]["what"] for report in lost.said])
    finally:
        peer.kill()
    raise AssertionError(f"it does not end: {printed}")


WAITS = """
import json, select, signal, socket, threading, time

def took(wait):
    began = time.time()
    try:
        wait()
    except TimeoutError:
        pass
    return time.time() - began

def wakes(seconds):
    time.sleep(seconds)
    there.send(b"x")

said = {"uptime": time.monotonic() >= 3600}
here, there = socket.socketpair()
here.settimeout(5)
server = socket.create_server(("127.0.0.1", 0))
server.settimeout(5)
sleeper = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
sleeper.start()
for name, wait in {
    "select": lambda: select.select([here], [], [], 5),
    "join": lambda: sleeper.join(5),
    "accept": server.accept,
    "recvfrom": lambda: here.recvfrom(1),
    "recvmsg": lambda: here.recvmsg(1),
    "recv_into": lambda: here.recv_into(buffer=bytearray(1)),
}.items():
    said[name] = took(wait)
waker = threading.Thread(target=wakes, args=(2,))
waker.start()
said["select that is woken"] = took(lambda: select.select([here], [], [], 5))
said["join of what ends"] = took(lambda: waker.join(5)), waker.is_alive()

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

def signals():
    time.sleep(1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

def is_notified():
    with condition:
        notified.append(condition.wait())

signal.signal(signal.SIGUSR1, stop)
condition, notified = threading.Condition(), []
threading.Thread(target=signals).start()
try:
    with condition:
        condition.wait(30)
except Stop:
    pass
waiter = threading.Thread(target=is_notified, daemon=True)
waiter.start()
with condition:
    condition.notify()
waiter.join(5)
said["notified"] = notified
print(json.dumps(said))
"""


def test_waits_pass_in_virtual_time_and_end_when_what_they_wait_for_comes(tmp_path: Path) -> None:
    said = ended(tmp_path, WAITS).said
    until_the_end = ("select", "join", "accept", "recvfrom", "recvmsg", "recv_into")
    assert said == {
        "uptime": True,
        **dict.fromkeys(until_the_end, 5.0),
        "select that is woken": 2.0,
        "join of what ends": [0.0, False],
        "notified": [True],
    }
