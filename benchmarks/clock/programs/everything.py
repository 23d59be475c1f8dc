"""Every clock, sleep, timer and source of chance of Python, once, or in four threads with the argument "threads"."""

import asyncio
import os
import queue
import random
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime

say_lock = threading.Lock()


def say(number: int, *what: object) -> None:
    with say_lock:
        print(number, *what, flush=True)


def clocks(number: int) -> None:
    ids = ["REALTIME", "MONOTONIC", "MONOTONIC_RAW", "BOOTTIME", "TAI", "PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID"]
    for name in ids:
        say(number, name, time.clock_gettime_ns(getattr(time, f"CLOCK_{name}")))
    say(
        number,
        "ns",
        time.time_ns(),
        time.monotonic_ns(),
        time.perf_counter_ns(),
        time.process_time_ns(),
        time.thread_time_ns(),
    )
    say(
        number,
        "dates",
        datetime.now(UTC).isoformat(),
        datetime.now().astimezone().isoformat(),
        time.localtime()[:6],
        time.strftime("%c"),
    )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    say(number, "cpu", usage.ru_utime, usage.ru_stime, os.times()[:4], time.clock_getres(time.CLOCK_MONOTONIC))
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
        file.flush()
        os.utime(file.name)


def sleeps(number: int) -> None:
    near, _far = socket.socketpair()
    near.settimeout(9)
    poll, epoll = select.poll(), select.epoll()
    poll.register(near, select.POLLIN)
    epoll.register(near, select.EPOLLIN)
    lock = threading.Lock()
    lock.acquire()

    def receive() -> None:
        try:
            near.recv(1)
        except TimeoutError:
            return

    def drain() -> None:
        try:
            queue.Queue().get(timeout=11)
        except queue.Empty:
            return

    def waited() -> None:
        try:
            subprocess.run(["sleep", "30"], timeout=12, check=False)
        except subprocess.TimeoutExpired:
            return

    ways = {
        "sleep": (3600, lambda: time.sleep(3600)),
        "select": (7.25, lambda: select.select([near], [], [], 7.25)),
        "poll": (1.5, lambda: poll.poll(1500)),
        "epoll": (2.5, lambda: epoll.poll(2.5)),
        "recv": (9, receive),
        "lock": (60, lambda: lock.acquire(timeout=60)),
        "event": (120.5, lambda: threading.Event().wait(120.5)),
        "condition": (4, lambda: wait_on(threading.Condition())),
        "queue": (11, drain),
        "child": (2, lambda: subprocess.run(["sleep", "2"], check=True)),
        "child's timeout": (12, waited),
        "asyncio": (600, lambda: asyncio.run(asyncio.sleep(600))),
        "asyncio timeout": (33, lambda: asyncio.run(timed_out())),
    }
    for name, (asked, way) in ways.items():
        begun = time.monotonic()
        way()
        passed = time.monotonic() - begun
        say(number, f"{name} asked {asked:.3f} passed {passed:.3f}", f"{passed:.9f}")


def wait_on(condition: threading.Condition) -> None:
    with condition:
        condition.wait(4)


async def timed_out() -> None:
    try:
        async with asyncio.timeout(33):
            await asyncio.Event().wait()
    except TimeoutError:
        return


def timers(number: int) -> None:
    rung = threading.Event()
    begun = time.monotonic()
    threading.Timer(45, rung.set).start()
    rung.wait()
    say(number, f"timer asked 45.000 passed {time.monotonic() - begun:.3f}")
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGALRM, lambda *_: None)
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 2, 3)
    for _ in range(3):
        signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(number, f"setitimer asked 8.000 passed {time.monotonic() - begun:.3f}")


def chance(number: int) -> None:
    with open("/dev/urandom", "rb") as first, open("/dev/random", "rb") as second:
        say(number, "devices", first.read(8).hex(), second.read(8).hex())
    say(number, "random", random.random(), random.SystemRandom().random(), random.Random().random())
    say(number, "bytes", os.urandom(8).hex(), secrets.token_hex(8), os.getrandom(8).hex())
    say(
        number,
        "ids",
        uuid.uuid1(),
        uuid.uuid4(),
        hash("text"),
        hash(b"text"),
        {"a", "b", "c"},
        os.getpid(),
        threading.get_native_id(),
    )
    with tempfile.TemporaryDirectory() as folder:
        say(number, "folder", os.path.basename(folder))


def everything(number: int) -> None:
    for part in (clocks, chance, sleeps, timers, chance, clocks):
        part(number)


if sys.argv[1:] == ["threads"]:
    threads = [threading.Thread(target=everything, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    everything(0)
