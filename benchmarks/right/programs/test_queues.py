"""Right queues: files, classes with the word for their design, and a whole system of processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from job_harness.core.model.design import Design
from job_harness.core.port import Contract, Engine
from job_harness.core.run.verdict import Verdict
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler
from job_harness.search.targets import open_engine

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))

from tests.detection.test_right_designs import RIGHT  # noqa: E402 - the path comes first

QUEUES = ["memory", "reference", "examples/queues/mail.yaml", "examples/queues/visibility.yaml"]
RUNS = 100
OF_FILES = 20
OF_SYSTEMS = 8
DESIGNS = YAML(typ="safe").load(Path(__file__).resolve().parents[1] / "designs.yaml")
"""By design, what a right queue file or system says in its place."""


Search = Callable[[Engine, int], None]


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Search:
    """Search an engine in as many runs, which the report names; nothing is found, and nothing is left open."""

    def run(engine: Engine, runs: int) -> None:
        request.node.user_properties.append(("runs", runs))
        _search(engine, request.config.getoption("--job-seed"), runs)

    return run


def _search(engine: Engine, seed: int, runs: int) -> None:
    sampler = Sampler(engine) if engine.info.settings is None else Sampler(engine, settings=engine.info.settings)
    try:
        done = sampler.explore(seed=seed, runs=runs)
    finally:
        engine.close()
    if done.interruption is not None:
        raise KeyboardInterrupt
    trouble = "" if done.trouble is None else done.trouble.message
    assert done.verdict is Verdict.PASS, [*(finding.anomaly for finding in done.findings), trouble]


@pytest.mark.parametrize("design", RIGHT)
def test_class(design: Design, search: Search) -> None:
    search(MemoryEngine(RIGHT[design][0], contract=Contract(designs=frozenset([design]))), RUNS)


@pytest.mark.parametrize("target", QUEUES)
def test_queue(target: str, search: Search) -> None:
    _search_by_name(search, str(ROOT / target) if "/" in target else target, RUNS)


@pytest.mark.parametrize("design", DESIGNS["systems"])
def test_system_of_design(design: str, search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_APP_REPAIRED", "true")
    _edited(ROOT / "examples/python-app", ("app.py", "system.yaml", "schema.sql"), DESIGNS["systems"][design], tmp_path)
    _search_by_name(search, str(tmp_path / "system.yaml"), OF_SYSTEMS)


@pytest.mark.parametrize("design", DESIGNS["files"])
def test_file(design: str, search: Search, tmp_path: Path) -> None:
    word = {"old": "queue: mail\n", "new": f"queue: mail\ndesign: [{design}]\n"}
    _edited(ROOT / "examples/queues", ("mail.yaml", "mail.sql"), [*DESIGNS["files"][design], word], tmp_path)
    _search_by_name(search, str(tmp_path / "mail.yaml"), OF_FILES)


def test_system(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_APP_REPAIRED", "true")
    _search_by_name(search, str(ROOT / "examples/python-app/system.yaml"), OF_SYSTEMS)


def _edited(source: Path, names: Sequence[str], edits: Sequence[dict[str, str]], folder: Path) -> None:
    """Copy files, with one text in the place of another. Raises AssertionError for one that is in none of them."""
    texts = {name: (source / name).read_text(encoding="utf-8") for name in names}
    for edit in edits:
        assert any(edit["old"] in text for text in texts.values()), edit["old"]
        texts = {name: text.replace(edit["old"], edit["new"]) for name, text in texts.items()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _search_by_name(search: Search, target: str, runs: int) -> None:
    try:
        search(open_engine(target), runs)
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
