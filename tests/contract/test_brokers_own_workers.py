"""Workers on BullMQ, RQ, Celery and SQS as their packages ship them, in the examples: right, wrong, and played again.

Each test starts a real Redis or moto's SQS, the library's own worker and its API, under the supervisor. Packages
come from npm and pip, and where these do not answer the tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from job_harness.core.run.play import play
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.finding import first_difference
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine
from job_harness.worlds.clock import ClockedTree
from job_harness.worlds.packages import npm_package, python_package

pytestmark = [pytest.mark.slow, pytest.mark.campaign]
EXAMPLES = Path(__file__).parents[2] / "examples"
DOUBLE_CHARGE = "effect_repeated"
SILENT_RUNS = 6


def with_rq(folder: Path) -> Path:
    return python_package("rq", "3.0.0")


def with_celery(folder: Path) -> Path:
    return python_package("celery", "5.7.0", "redis==8.1.0", "packaging==25.0")


def with_bullmq(folder: Path) -> Path:
    modules = npm_package("bullmq", "5.81.5", "ioredis@5") / "node_modules"
    (folder / "node_modules").symlink_to(modules)
    return modules


def with_boto3(folder: Path) -> Path:
    return python_package("boto3", "1.44.8")


Prepare = Callable[[Path], Path]
APPLICATIONS = [
    pytest.param("rq-app", with_rq, id="rq"),
    pytest.param("bullmq-app", with_bullmq, id="bullmq"),
    pytest.param("sqs-app", with_boto3, id="sqs"),
    pytest.param("celery-redis-app", with_celery, id="celery"),
]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Prepare, bool], SystemEngine]]:
    engines: list[SystemEngine] = []

    def make(name: str, prepare: Prepare, repaired: bool) -> SystemEngine:
        folder = Path(shutil.copytree(EXAMPLES / name, tmp_path / "app"))
        monkeypatch.setenv("PAYMENTS_REPAIRED", str(repaired).lower())
        try:
            modules = prepare(folder)
            ClockedTree(options=("--own-net",)).close()
            file = folder / "system.yaml"
            file.write_text(file.read_text().replace("env: {", f'env: {{PYTHONPATH: "{modules}", ', 1))
            engine = SystemEngine(str(file))
            engines.append(engine)
            engine.info.prepare()
        except EnvironmentUnavailable as missing:
            pytest.skip(missing.message)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(("name", "prepare"), APPLICATIONS)
def test_a_charge_without_an_idempotency_key_happens_twice_and_does_so_again_by_its_tape(
    opened: Callable[[str, Prepare, bool], SystemEngine], name: str, prepare: Prepare
) -> None:
    engine = opened(name, prepare, False)
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    run = next(run for run in map(sampler.sample, range(6)) if DOUBLE_CHARGE in run.found)
    for _ in range(2):
        again = play(replace(run.scenario, tape=run.tape), engine=engine, seed=run.seed)
        assert first_difference(run.history.events, again.history.events) is None


@pytest.mark.parametrize(("name", "prepare"), APPLICATIONS[:-1])  # A run of Celery takes ten times as long.
def test_the_repaired_application_is_silent(
    opened: Callable[[str, Prepare, bool], SystemEngine], name: str, prepare: Prepare
) -> None:
    engine = opened(name, prepare, True)
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    found = {seed: sorted(run.found) for seed in range(SILENT_RUNS) if (run := sampler.sample(seed)).found}
    assert found == {}
