"""Notes every anomaly that is reported in any Python process of the suite, and which test it was reported in.

On `PYTHONPATH`, Python imports this at its start, from any parent; so a command that a test runs, and what that
command forks, write their lines too. `core.run.observation` is where every history gets its judge: a list of
anomalies that writes down what it is given takes the place of the judge's own there. A process that has been given
another `PYTHONPATH`, or `python -I`, writes nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MODULE = "job_harness.core.run.observation"


def note(kind: str, name: str, target: str) -> None:
    """Write one line, at once and in one piece: a forked child may end without a word."""
    line = "\t".join((kind, name, target, os.environ.get("SUITE_TEST", "-"))) + "\n"
    to = os.open(os.path.join(os.environ["SUITE_FOLDER"], "noted.tsv"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(to, line.encode())
    finally:
        os.close(to)


class Noted(list[Any]):
    """The anomalies of one judge. Those of the name in `SUITE_BLIND_TO` are dropped: a detector that has gone blind."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target
        self._told: set[str] = set()

    def append(self, anomaly: Any) -> None:
        if anomaly.name == os.environ.get("SUITE_BLIND_TO"):
            return
        if anomaly.name not in self._told:
            self._told.add(anomaly.name)
            note("anomaly", anomaly.name, self._target)
        super().append(anomaly)


def observe(module: ModuleType) -> None:
    """Give every judge of an `Observation` a list that notes."""
    make = module.Observation.__init__

    def noting(self: Any, *given: Any, **more: Any) -> None:
        make(self, *given, **more)
        engine = more.get("engine")
        queue = type(self.queue)
        own = "" if queue.__module__.startswith("job_harness.") else f" ({queue.__qualname__})"
        self.judge.anomalies = Noted(("-" if engine is None else engine.name) + own)

    module.Observation.__init__ = noting


class AfterImport(Loader):
    """Loads the module as its own loader does, then changes it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        observe(module)


class Finder(MetaPathFinder):
    """Stands before the other finders, for one module."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = AfterImport(spec.loader)
        return spec


if "SUITE_FOLDER" in os.environ:
    sys.meta_path.insert(0, Finder())
