"""What a search is pointed at: `module:factory` or `path.py:factory`, which makes an engine, a queue or an application.

`TARGET+SAFEGUARD` is an application with one of the safeguards switched on that it declares; `TARGET@STORE` is one
whose two tables are elsewhere than in memory.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.application import ApplicationEngine, TableStore
from harness.application.driver import where_of
from harness.application.engine import NEEDED
from harness.application.queue_target import ACCEPTED, QueueEngine, looks_like_a_queue, offered
from harness.errors import UsageError, did_you_mean
from harness.port import Engine

FORMS = "Write module:factory or path/to/file.py:factory."


def is_target(name: str) -> bool:
    """Whether this names a factory of somebody's own rather than an engine."""
    return ":" in name


def located(name: str, folder: Path) -> str:
    """Return a target whose file is found from here: in `folder`, or in the nearest folder above that has it.

    Raises UsageError where no folder has it.
    """
    where, colon, attribute = name.partition(":")
    if not where.endswith(".py") or Path(where).is_absolute():
        return name
    start = folder.resolve()
    for above in (start, *start.parents):
        found = above / where
        if found.is_file():
            return f"{_shown(found)}{colon}{attribute}"
    raise UsageError(
        f"application: there is no file {where} in {start}, nor in any folder above it",
        hint="The path is relative to the folder of the scenario, or to one above it.",
    )


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def open_target(name: str, *, store: TableStore | None = None) -> Engine:
    """Make what a target names; `store` is the one that it asks for, opened.

    Raises UsageError that says what is missing, or what it made instead.
    """
    whole, *safeguards = name.split("+")
    where, asked = store_of(whole)
    factory = load_factory(where)
    if not callable(factory):
        raise UsageError(f"{where} is {factory!r:.80}, which cannot be called", hint=FORMS)
    if offered(factory, name=where):
        return _without_store(_queues(factory, where), asked)
    made = _made(factory, where)
    if callable(getattr(made, "open", None)):
        return _without_store(_engine(made, where), asked)
    if looks_like_a_queue(made):
        return _without_store(_queues(factory, where), asked)
    if not any(hasattr(made, name) for name in NEEDED):
        raise UsageError(f"{where} answered {type(made).__name__}, which is no target", hint=ACCEPTED)
    application = ApplicationEngine(factory, name=whole, store=store)
    for safeguard in safeguards:
        application = application.guarded(safeguard)
    application.owns_store = True
    return application


def store_of(name: str) -> tuple[str, str]:
    """Take `TARGET@STORE` apart; the store is empty where none is named."""
    place, colon, attribute = name.partition("+")[0].partition(":")
    attribute, _, store = attribute.partition("@")
    return f"{place}{colon}{attribute}", store


def _without_store(engine: Engine, asked: str) -> Engine:
    if asked:
        raise UsageError(
            f"{engine.name} has no two tables that could be on {asked}",
            hint="Only an application, which has actors(stage) and send(stage, job), is put on a store.",
        )
    return engine


def _queues(factory: Callable[..., Any], where: str) -> Engine:
    engine: Engine = QueueEngine(factory, name=where)
    return engine


def _engine(made: Any, where: str) -> Engine:
    missing = [name for name in ("name", "capabilities", "close") if not hasattr(made, name)]
    if missing:
        raise UsageError(
            f"{where} answered {type(made).__name__}, which opens queues but has no {' and no '.join(missing)}",
            hint=ACCEPTED,
        )
    engine: Engine = made
    return engine


def _made(factory: Callable[[], Any], where: str) -> Any:
    try:
        return factory()
    except Exception as error:
        raise UsageError(
            f"{where} cannot be made: {type(error).__name__}: {error} (at {where_of(error)})",
            hint="It is called without arguments, once for every run.",
        ) from error


def load_factory(where: str) -> Any:
    """Import what `module:name` or `path.py:name` names. Raises UsageError that says what is missing."""
    place, _, attribute = where.partition(":")
    if not place or not attribute:
        raise UsageError(f"{where!r} is no target", hint=FORMS)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            near = did_you_mean(part, names)
            raise UsageError(f"{place} has no {part!r}{near}", hint=f"It has {', '.join(sorted(names)[:12])}.")
        found = getattr(found, part)
    return found


def _from_path(name: str) -> ModuleType:
    _on_path(Path.cwd())
    try:
        return import_module(name)
    except Exception as error:
        raise _broken(name, error) from error


def _from_file(path: Path) -> ModuleType:
    """Execute a file anew, so that what was repaired meanwhile is what runs; its neighbours can be imported."""
    if not path.is_file():
        near = did_you_mean(path.name, [file.name for file in path.parent.glob("*.py")])
        raise UsageError(f"{path}: there is no such file{near}", hint=FORMS)
    absolute = path.resolve()
    _on_path(absolute.parent)
    name = f"_job_harness_{absolute.stem}_{hashlib.sha256(str(absolute).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, absolute)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _broken(what: str, error: Exception) -> UsageError:
    at = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else where_of(error)
    return UsageError(f"{what} cannot be loaded: {type(error).__name__}: {error} (at {at})", hint=FORMS)
