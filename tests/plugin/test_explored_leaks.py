"""Explored runs that share a process: what one leaves there is put back, or they are forked and the line says why."""

from __future__ import annotations

from typing import Final

import pytest

TESTS: Final = """
import asyncio, codecs, contextvars, decimal, functools, json, locale, logging, os, pathlib, signal, socket, subprocess
import sys, tempfile, textwrap, threading, time, warnings
import pytest
from job_harness.subjects.processors import JobResult, effect

state, numbers, count = {}, [], 0
objects = set()
var = contextvars.ContextVar("var", default=0)

class Plain:
    charged = []

class Gateway:
    def __init__(self):
        self.charged = []

class Thing: ...

gateway = Gateway()
nested = [Gateway()]

@functools.lru_cache
def cached(number):
    numbers_seen = number
    return numbers_seen

def closing():
    seen = []
    def closed():
        seen.append(1)
        return len(seen)
    return closed

closed = closing()

def defaulted(seen=[]):
    seen.append(1)
    return len(seen)

def counted():
    global count
    count += 1
    return count

def finds_codec(name):
    return None

def play(harness):
    harness.register("pay", lambda job: JobResult(success=True))
    harness.enqueue("pay")
    harness.run_until_idle()

# The first of each run of its own: a run that found what another one has left would fail.
PUT_BACK = {
    "dict": lambda: (state.setdefault("runs", []).append(1), len(state["runs"]))[1],
    "list": lambda: (numbers.append(1), len(numbers))[1],
    "number": counted,
    "class": lambda: (Plain.charged.append(1), len(Plain.charged))[1],
    "object": lambda: (gateway.charged.append(1), len(gateway.charged))[1],
    "closure": lambda: closed(),
    "default": lambda: defaulted(),
    "set": lambda: (objects.add(Thing()), len(objects))[1],
    "cache": lambda: (cached(7), cached.cache_info().misses)[1],
}

@pytest.mark.parametrize("kind", PUT_BACK)
def test_put_back(job_harness, kind):
    assert PUT_BACK[kind]() == 1
    play(job_harness)

def sleeps():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

NAMED = {
    "environment": lambda: os.environ.__setitem__("LEFT", "1"),
    "chdir": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o000),
    "signal": lambda: signal.signal(signal.SIGUSR1, lambda number, frame: None),
    "timer": lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 600, 600),
    "thread": sleeps,
    "descriptor": lambda: os.dup(0),
    "file": lambda: pathlib.Path("left.txt").write_text("x"),
    "child": lambda: subprocess.run(["true"], check=True),
    "codec": lambda: codecs.register(finds_codec),
    "policy": lambda: asyncio.set_event_loop_policy(type("Mine", (asyncio.DefaultEventLoopPolicy,), {})()),
    "patched": lambda: setattr(textwrap, "dedent", play),
    "method": lambda: setattr(json.JSONEncoder, "default", play),
    "warnings": lambda: warnings.simplefilter("ignore", Warning),
    "handler": lambda: logging.getLogger().addHandler(logging.NullHandler()),
    "level": lambda: logging.getLogger("shop").setLevel(1),
    "path": lambda: sys.path.append("/nowhere"),
    "recursion": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    "timeout": lambda: socket.setdefaulttimeout(7),
    "decimal": lambda: setattr(decimal.getcontext(), "prec", 7),
    "temporary": lambda: setattr(tempfile, "tempdir", "/tmp/../tmp"),
    "deep": lambda: nested[0].charged.append(1),
    "excepthook": lambda: setattr(sys, "excepthook", play),
}

@pytest.mark.parametrize("kind", NAMED)
def test_named(job_harness, kind):
    NAMED[kind]()
    play(job_harness)
"""
NAMED: Final = {
    "environment": "changes os.environ['LEFT']",
    "chdir": "changes the working directory",
    "umask": "changes the umask",
    "signal": "changes the handler of a signal",
    "timer": "changes a timer of the process",
    "thread": "changes the threads",
    "descriptor": "changes the open descriptors",
    "file": "left.txt at *test_it.py:",
    "child": "starts a process at *test_it.py:",
    "codec": "changes the registered codecs",
    "policy": "changes the policy of asyncio",
    "patched": "changes textwrap.dedent",
    "method": "changes json.encoder.JSONEncoder.default",
    "warnings": "changes the filters of warnings",
    "handler": "changes the loggers",
    "level": "changes the loggers",
    "path": "changes sys.path",
    "recursion": "changes the recursion limit",
    "timeout": "changes the default timeout of sockets",
    "decimal": "changes the context of decimal",
    "temporary": "changes tempfile.tempdir",
    "deep": "changes test_it.nested",
    "excepthook": "changes the hooks for exceptions",
}
PUT_BACK: Final = ("dict", "list", "number", "class", "object", "closure", "default", "set", "cache")
LOADING: Final = """
from job_harness.subjects.processors import JobResult

def test_loading(job_harness):
    import shop
    shop.charged.append(1)
    assert shop.charged == [1]
    job_harness.register("pay", "shop:pay")
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
"""
SHOP: Final = """
from job_harness.subjects.processors import JobResult

charged = []

async def pay(job):
    return JobResult(success=True)
"""


@pytest.mark.long
def test_plain_data_that_a_run_changes_is_as_it_was_in_the_next_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("--job-explore=3", "-rP", "-k", "put_back")
    lines = [line for line in result.outlines if "disturbed runs in" in line and "; " in line]
    assert [line.split("; ")[1] for line in lines] == ["copy, seed 0"] * len(PUT_BACK), result.outlines


@pytest.mark.long
@pytest.mark.parametrize("kind", NAMED)
def test_what_is_not_put_back_is_named_and_the_runs_are_forked(pytester: pytest.Pytester, kind: str) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("--job-explore=2", "-rP", "-k", f"named and {kind}")
    result.stdout.fnmatch_lines([f"*disturbed runs in *; fork, as it *{NAMED[kind].replace('[', '[[]')}*, seed 0*"])


@pytest.mark.long
def test_a_module_that_a_run_loads_is_loaded_before_all_of_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=LOADING, shop=SHOP)
    result = pytester.runpytest_subprocess("--job-explore=3", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*disturbed runs in *; copy, seed 0*"])
