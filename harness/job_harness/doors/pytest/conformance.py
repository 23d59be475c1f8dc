"""What every queue must pass, ours and other people's; as a class to subclass, with a test for each case.

A case is skipped by name where a queue declares less.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from job_harness.core.port import Engine, as_engine
from job_harness.engines.conformance.judge import Conformance, Level, Mark, SuiteCase, cases, conform, judge_case
from job_harness.errors import UsageError
from job_harness.subjects.applications.queue_target import QueueEngine

__all__ = ["Conformance", "Level", "QueueConformance", "conform"]


class QueueConformance:
    """Subclass it in a test file, and say how to create your queue.

    `make` is a queue class, or a function that takes `(settings, clocks, jitter)` and returns an empty
    `QueueUnderTest`; or one without parameters that returns an `Engine`, which is opened once and closed at the end.
    """

    make: ClassVar[Callable[..., Any]]

    _engine: ClassVar[Engine]

    @classmethod
    def setup_class(cls) -> None:
        """Open the engine that every case of this class runs on."""
        cls._engine = engine_of(inspect.getattr_static(cls, "make", None), name=cls.__name__)

    @classmethod
    def teardown_class(cls) -> None:
        """Give it back."""
        cls._engine.close()

    @pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.level}-{case.name}")
    def test_conforms(self, case: SuiteCase) -> None:
        """One case of the suite."""
        result = judge_case(case, self._engine)
        if result.mark in (Mark.SKIPPED, Mark.DIFFERENT):
            pytest.skip(result.why)
        if result.mark is Mark.KNOWN:
            pytest.xfail(result.why)
        if result.mark is not Mark.PASS:
            pytest.fail(f"{case.name} ({case.scenario.title}): {result.why}", pytrace=False)


def engine_of(make: Any, *, name: str) -> Engine:
    """Return the engine that a factory stands for. Raises UsageError if it is not a factory."""
    factory: Any = make.__func__ if isinstance(make, staticmethod | classmethod) else make
    if not callable(factory):
        raise UsageError(
            f"{name}.make is {make!r}, which does not make a queue",
            hint="Set it to a queue class, or to a function that returns a queue or an engine.",
        )
    wanted = [
        parameter
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
    ]
    if wanted:
        return QueueEngine(factory, name=f"{name}.make")
    return as_engine(factory())
