"""A program under the preload of Python processes waits, draws, starts children and connects as its harness says."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from job_harness.subjects.systems.process import ASKED, PYTHON_PRELOAD
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import Peer, PeerLost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the preload asks Linux who sleeps")

BEGIN = 1_900_000_000_000
"""What the program's clock shows when it begins, in milliseconds: 17 March 2030, 17:46:40."""


class Ended(NamedTuple):
    """What a program printed last, as JSON, and what it did that is not under control."""

    said: Any
    notes: list[str]


def ended(
    folder: Path,
    program: str,
    *,
    outside: tuple[str, ...] = (),
    recorder: int = 1,
    due: Callable[[list[Any]], list[Any]] = list,
) -> Ended:
    """Run a program to its end; whenever it is at rest, its next timer fires, of those that are `due`."""
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
            if timers := due(idle["timers"]):
                number, now, *_ = min(timers, key=lambda timer: timer[1])
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


TICKS_AND_POLLS = """
import asyncio, json, time

async def ticks():
    while True:
        await asyncio.sleep(0.1)

async def polls():
    for _ in range(3):
        await asyncio.sleep(5)

async def main():
    ticking = asyncio.create_task(ticks())
    try:
        async with asyncio.timeout(3600):
            await polls()
    finally:
        ticking.cancel()

began = time.time()
asyncio.run(main())
print(json.dumps(time.time() - began))
"""


def test_each_timer_of_a_loop_is_told_and_none_waits_for_those_that_are_left_out(tmp_path: Path) -> None:
    """A tick that is left out for an hour hides no poll of another task, and what is over is told no more."""
    seen: list[list[tuple[str, float]]] = []

    def but_ticks(timers: list[Any]) -> list[Any]:
        seen.append(sorted((place.rpartition(":")[2], wait) for _, _, wait, _, place, _ in timers))
        return [timer for timer in timers if not timer[4].endswith("ticks")]

    assert ended(tmp_path, TICKS_AND_POLLS, due=but_ticks).said == 15
    assert seen == [[("main", 3_600_000), ("polls", 5000), ("ticks", 100)]] * 3


DRAWS = """
import datetime, json, os, pickle, random, subprocess, time
from datetime import date, datetime as moment

class Own(moment):
    pass

def forked():
    inward, outward = os.pipe()
    if os.fork() == 0:
        began = time.time()
        time.sleep(0.01)
        took = time.time() - began
        os.write(outward, json.dumps([took >= 0.01, began, random.random(), os.urandom(4).hex()]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(inward, 1000))

now = moment.now()
said = {
    "now": [str(moment.now(datetime.timezone.utc)), str(moment.utcnow()), str(moment.today()), str(date.today())],
    "kept": [pickle.loads(pickle.dumps(now)) == now, type(Own.now()) is Own, isinstance(now, Own), type(now) is moment],
    "drawn": [random.Random().random(), random.seed(), random.random()],
    "forked": [forked(), forked()],
}
late = subprocess.run(["sh", "-c", "sleep 0.05; echo late"], capture_output=True, text=True, timeout=5)
said["subprocess"] = late.stdout
print(json.dumps(said))
"""


def test_a_program_and_its_children_know_the_time_and_draw_the_same_in_each_run(tmp_path: Path) -> None:
    first, second = (ended(tmp_path, DRAWS).said for _ in range(2))
    assert first["now"] == ["2030-03-17 17:46:40+00:00", *["2030-03-17 17:46:40"] * 2, "2030-03-17"]
    assert first["kept"] == [True, True, False, True]
    assert first["subprocess"] == "late\n"
    for slept, began, *_ in first["forked"]:
        assert slept
        assert 0 <= began - BEGIN / 1000 < 60
    drawn = [[run["drawn"], *(child[2:] for child in run["forked"])] for run in (first, second)]
    assert drawn[0] == drawn[1]
    assert drawn[0][1] != drawn[0][2]


CONNECTS = """
import asyncio, errno, json, socket, ssl, sys, urllib.request
import httpx

ASKS = b"GET / HTTP/1.1\\r\\nhost: pay.example.com\\r\\n\\r\\n"

async def by_asyncio():
    reader, writer = await asyncio.open_connection("pay.example.com", 443, ssl=True)
    writer.write(ASKS)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer[-2:].decode()

async def by_httpx(scheme):
    async with httpx.AsyncClient(timeout=None) as client:
        return (await client.get(f"{scheme}://pay.example.com/")).text

def by_name(port):
    with socket.socket() as own:
        own.connect(("pay.example.com", port))
        own.sendall(ASKS)
        return own.recv(1000)[-2:].decode()

def refused(connect):
    try:
        return errno.errorcode[connect()]
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)

here = socket.socket(type=socket.SOCK_DGRAM)
here.bind(("127.0.0.1", 0))
datagrams, route = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
route.connect(("192.0.2.7", 80))
said = {
    "answered": [
        urllib.request.urlopen("https://pay.example.com/").read().decode(),
        by_name(443),
        asyncio.run(by_asyncio()),
        asyncio.run(by_httpx("http")),
        asyncio.run(by_httpx("https")),
    ],
    "refused": [
        refused(lambda: socket.socket().connect(("nowhere.invalid", 443))),
        refused(lambda: socket.socket().connect_ex(("192.0.2.1", 443))),
        refused(lambda: datagrams.sendto(b"x", ("192.0.2.2", 53))),
        refused(lambda: datagrams.sendmsg([b"x"], [], 0, ("192.0.2.3", 53))),
        refused(lambda: socket.create_connection(("elsewhere.invalid", 443))),
    ],
    "local": [datagrams.sendto(b"x", ("localhost", here.getsockname()[1])), here.recv(1).decode()],
    "own address": route.getsockname()[0],
}
print(json.dumps(said))
"""


@pytest.fixture
def recorder() -> Iterator[int]:
    """Serve `ok` to each request, and return the port."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    server.join()


def test_every_client_reaches_a_host_outside_and_none_another_machine(tmp_path: Path, recorder: int) -> None:
    said, notes = ended(tmp_path, CONNECTS, outside=("pay.example.com",), recorder=recorder)
    assert said == {
        "answered": ["ok"] * 5,
        "refused": [*["ENETUNREACH"] * 4, "gaierror"],
        "local": [1, "x"],
        "own address": "127.0.0.1",
    }
    assert [note.removesuffix(", which `outside` does not name") for note in notes] == [
        "it connects to nowhere.invalid:443",
        "it connects to 192.0.2.1:443",
        "it sends a datagram to 192.0.2.2:53",
        "it sends a datagram to 192.0.2.3:53",
        "it connects to elsewhere.invalid:443",
    ]
