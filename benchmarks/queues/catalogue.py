"""The queues in `queues/`: of each what `about.yaml` says, and the target that a search is given.

Knows files and words; must not know how a search is run or what a page looks like.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from job_harness.core.invariants import ANOMALIES
from job_harness.core.invariants.property import Guarantee
from job_harness.core.port import Documented
from job_harness.core.scenario.document import read_document
from job_harness.search.targets import open_engine
from job_harness.worlds.packages import newest_npm, newest_python
from queues.package import Package, debian_package, files_of

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "queues"
COLUMNS: Final = ("default", "recommended")


class AboutError(Exception):
    """An `about.yaml` that says something that nothing reads, or leaves out what is needed."""


@dataclass(frozen=True)
class QueueAbout:
    """One folder of `queues/`."""

    name: str
    title: str
    kind: str
    """`real`: its own statements or code; `modelled`: ours, after its source."""
    reads: str
    """What of it runs."""
    package: str
    index: str
    engine: Mapping[str, str]
    """By column, the engine before its release; empty: a recipe or a queue file."""
    settings: Mapping[str, Mapping[str, Any]]
    why: Mapping[str, str]
    promises: Mapping[Guarantee, str]
    documented: Mapping[Guarantee, str]
    runs: int
    source: str
    notes: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return FOLDER / self.name


_KEYS: Final = {
    "title", "kind", "reads", "package", "index", "engine", "settings", "why", "promises", "documented", "runs",
    "source", "notes",
}  # fmt: skip


def guarantees(said: Mapping[str, str], where: Path) -> dict[Guarantee, str]:
    """Read promises by the names of guarantees."""
    if unknown := sorted(set(said) - set(Guarantee.__members__)):
        raise AboutError(f"{where}: there is no guarantee {unknown[0]}; there are {', '.join(Guarantee.__members__)}")
    return {Guarantee[name]: str(place) for name, place in said.items()}


def read(folder: Path) -> QueueAbout:
    """Read one folder."""
    where = folder / "about.yaml"
    said = read_document(where.read_bytes(), str(where)).data
    if unknown := sorted(set(said) - _KEYS):
        raise AboutError(f"{where}: unknown key {unknown[0]}; there are {', '.join(sorted(_KEYS))}")
    if said["kind"] not in ("real", "modelled"):
        raise AboutError(f"{where}: a queue is real or modelled, not {said['kind']}")
    engine = said.get("engine", {})
    return QueueAbout(
        name=folder.name,
        title=said["title"],
        kind=said["kind"],
        reads=said["reads"],
        package=said.get("package", ""),
        index=said.get("index", ""),
        engine=dict.fromkeys(COLUMNS, engine) if isinstance(engine, str) else engine,
        settings=said.get("settings", {}),
        why=said.get("why", {}),
        promises=guarantees(said.get("promises", {}), where),
        documented=guarantees(said.get("documented", {}), where),
        runs=said.get("runs", 60),
        source=said.get("source", ""),
        notes=said.get("notes", ""),
    )


def catalogue(names: tuple[str, ...] = ()) -> list[QueueAbout]:
    """Return all queues, or those that are named, by title."""
    folders = [path.parent for path in sorted(FOLDER.glob("*/about.yaml")) if not names or path.parent.name in names]
    return sorted(map(read, folders), key=lambda about: about.title.lower())


@dataclass(frozen=True)
class QueueTarget:
    """What a search of one column is given."""

    target: str
    release: str
    options: tuple[str, ...] = ()
    documented: tuple[tuple[Guarantee, str], ...] = ()
    """What the contract of an engine says of its manual: these anomalies are excused, so no search reports them."""
    untried: frozenset[Guarantee] = frozenset()
    """What no search can judge here, as nothing asks for it or shows it."""


def setting_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a queue file writes them."""
    return ", ".join(f"{name}: {str(value).lower()}" for name, value in settings.items())


def target_of(about: QueueAbout, column: str, *, into: Path, release: str = "") -> QueueTarget:
    """Return the target of a column: an engine of the newest release, or a queue file that is written `into` a folder.

    A named `release` stands in for the newest.
    """
    settings = about.settings.get(column, {})
    options = tuple(f"--set={name}={str(value).lower()}" for name, value in settings.items())
    if about.engine:
        newest = {"npm": newest_npm, "PyPI": newest_python}[about.index]
        version = release or newest(about.package, "latest")
        name, slash, suffix = about.engine[column].partition("/")
        target = f"{name}@{version}{slash}{suffix}"
        return QueueTarget(target, version, options, places(target), untried(target))
    file = into / f"{about.name}-{column}.yaml"
    recipe = about.folder / "recipe.py"
    if recipe.exists():
        package = (
            debian_package(about.package) if about.index == "Debian" else files_of(about.package, release or "latest")
        )
        file.write_text(_written(recipe, package, settings=setting_text(settings)), encoding="utf-8")
        return QueueTarget(str(file), package.version, untried=untried(str(file)))
    text = (about.folder / "queue.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    return QueueTarget(str(file), about.source, options, untried=untried(str(file)))


def untried(target: str) -> frozenset[Guarantee]:
    """Return the guarantees all of whose invariants need what this queue is not declared to have."""
    able = open_engine(target).info.capabilities
    judged, all_of_them = set[Guarantee](), set[Guarantee]()
    for invariant, anomaly in ANOMALIES.values():
        all_of_them.add(anomaly.guarantee)
        if all(getattr(able, name) for name in invariant.capabilities):
            judged.add(anomaly.guarantee)
    return frozenset(all_of_them - judged)


def places(target: str) -> tuple[tuple[Guarantee, str], ...]:
    """Return, by guarantee, the first place at which the manual of an engine's queue says that it is not kept."""
    found: dict[Guarantee, str] = {}
    for anomaly, documented in open_engine(target).info.contract.documented.items():
        first = documented if isinstance(documented, str | Documented) else documented[0]
        found.setdefault(ANOMALIES[anomaly][1].guarantee, first if isinstance(first, str) else first.place)
    return tuple(found.items())


def _written(recipe: Path, package: Package, *, settings: str) -> str:
    spec = importlib.util.spec_from_file_location(f"recipe_of_{recipe.parent.name}", recipe)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: str = module.write(package, settings)
    return written
