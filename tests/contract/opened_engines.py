"""Engines by name for the tests of one module: each is opened once, and one that cannot run here skips its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.sim.clock import Clocks
from job_harness.core.target import Target
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.targets import Engines

Get: TypeAlias = Callable[[str], Any]
"""Returns the engine of a name, such as `pgqueuer@1.6.0` or `pgqueuer@1.3.2 --sessions`."""


@contextmanager
def opened_engines() -> Iterator[Get]:
    """Give out engines, and close them at the end."""
    with Engines() as engines:
        ready: set[str] = set()

        def get(name: str) -> Any:
            try:
                engine = engines.get(Target.parse(name))
                if name not in ready:
                    engine.open(Settings(), Clocks(), lambda: 0.0).close()
            except EnvironmentUnavailable as error:
                pytest.skip(str(error))
            ready.add(name)
            return engine

        yield get


def fresh(engine: Any, settings: Settings | None = None) -> tuple[Any, Clocks]:
    """Open an empty queue, and return it with its clocks."""
    clocks = Clocks()
    return engine.open(settings or Settings(), clocks, lambda: 0.0), clocks
