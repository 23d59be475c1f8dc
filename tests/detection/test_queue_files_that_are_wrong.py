"""Queue files with one planted mistake each: the search finds it, and nothing in the right one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from job_harness.engines.queue_file import QueueFileEngine
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler

FOLDER = Path(__file__).with_name("queue_files")
FILES: dict[str, dict[str, dict[str, Any]]] = YAML(typ="safe").load((FOLDER / "mistakes.yaml").read_text())
MISTAKES = [(file, name) for file, mistakes in FILES.items() for name in mistakes]
CONCURRENT = {"each-sees-the-other", "counted-before-it-claims"}
"""These show only where two transactions are open at once: `make planted` opens them with sessions."""
ORDINARY = {"counts-successes", "callback-of-each", "no-such-hour"}
RUNS = 300

pytestmark = pytest.mark.postgres


Open = Callable[[str, str], Sampler]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    return lambda file, mistake: sampler(file, mistake, tmp_path, request)


def sampler(file: str, mistake: str, folder: Path, request: pytest.FixtureRequest) -> Sampler:
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    for old, new in FILES[file].get(mistake, {}).get("replace", {}).items():
        found = [each for each in folder.iterdir() if each.name != "mistakes.yaml" and old in each.read_text()]
        assert len(found) == 1, f"{old!r} is in {found}"
        found[0].write_text(found[0].read_text().replace(old, new))
    engine = QueueFileEngine(str(folder / file))
    request.addfinalizer(engine.close)
    try:
        engine.info.prepare()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    assert engine.info.settings is not None
    return Sampler(engine, settings=engine.info.settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "mistake"),
    [
        pytest.param(*each, id=each[1], marks=() if each[1] in ORDINARY else pytest.mark.campaign)
        for each in MISTAKES
        if each[1] not in CONCURRENT
    ],
)
def test_the_generic_search_finds_it(file: str, mistake: str, opened: Open) -> None:
    search, finds = opened(file, mistake), FILES[file][mistake]["finds"]

    assert any(finds in search.sample(seed).found for seed in range(RUNS))


@pytest.mark.campaign
@pytest.mark.parametrize("file", FILES)
def test_it_finds_nothing_where_there_is_no_mistake(file: str, opened: Open) -> None:
    search = opened(file, "")

    assert {seed: found for seed in range(RUNS) if (found := search.sample(seed).found)} == {}
