"""The pytest plugin of `python benchmarks/suite`: what each test costs in CPU, and which test is at work."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def spent() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def write(kind: str, name: str, seconds: float) -> None:
    """Add one line to what this process writes."""
    path = Path(os.environ["SUITE_FOLDER"]) / f"cost-{os.getpid()}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([kind, name, round(seconds, 5)]) + "\n")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    os.environ["SUITE_TEST"] = item.nodeid
    before = spent()
    result = yield
    write("test", item.nodeid, spent() - before)
    os.environ.pop("SUITE_TEST", None)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, Any, Any]:
    before = spent()
    result = yield
    if hasattr(fixturedef.func, "__code__"):
        where = Path(fixturedef.func.__code__.co_filename).name
        write("fixture", f"{where}:{fixturedef.argname}", spent() - before)
    return result


def pytest_collection_finish(session: pytest.Session) -> None:
    write("collection", os.environ.get("PYTEST_XDIST_WORKER", "controller"), spent())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    write("process", os.environ.get("PYTEST_XDIST_WORKER", "controller"), spent())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and report.failed:
        write("failed", report.nodeid, 0)
