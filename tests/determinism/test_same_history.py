"""Same seed, same bytes: in one process, under other hash seeds, on other Pythons."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEEDS = 80
CARRIED = 20
OTHERS = ("3.14", "3.13", "3.12", "3.11")


def load_recording() -> ModuleType:
    spec = importlib.util.spec_from_file_location("determinism_recording", HERE / "recording.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECORDING = load_recording()


@pytest.fixture(scope="module")
def here() -> list[str]:
    digests: list[str] = RECORDING.digests(SEEDS)
    return digests


def child(python: str, hash_seed: str, *, carried: int = 0) -> list[str]:
    roots = os.pathsep.join(str(ROOT / name) for name in ("harness", "reference_impl"))
    environment = {**os.environ, "PYTHONPATH": roots, "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONHOME", None)
    done = subprocess.run(
        [python, str(HERE / "recording.py"), str(carried), "carried"]
        if carried
        else [python, "-S", str(HERE / "recording.py"), str(SEEDS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def first_difference(ours: list[str], theirs: list[str]) -> str:
    """Name the first seed whose history differs."""
    if len(ours) != len(theirs):
        return f"{len(ours)} histories here, {len(theirs)} there"
    return next(
        (f"seed {n} differs" for n, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1), ""
    )


def other_python() -> str | None:
    """Find the newest Python on the machine of another version than ours."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in OTHERS:
        if version == ours:
            continue
        installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        on_path = shutil.which(f"python{version}")
        for candidate in [*map(str, installed), *([on_path] if on_path else [])]:
            if works(candidate, version):
                return candidate
    return None


def works(python: str, version: str) -> bool:
    """A shim on the path may stand for a Python that is not there."""
    ask = [python, "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


@pytest.mark.long
@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_when_the_heap_looks_different(here: list[str]) -> None:
    garbage = [[object() for _ in range(17)] for _ in range(20_000)]
    del garbage[::3]
    assert first_difference(here, RECORDING.digests(SEEDS)) == ""


@pytest.mark.long
@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_under_any_hash_seed(here: list[str]) -> None:
    assert first_difference(here, child(sys.executable, "424242")) == ""


@pytest.mark.long
@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_with_the_reference_worker_on_its_loop() -> None:
    garbage = [[object() for _ in range(17)] for _ in range(20_000)]
    del garbage[::3]
    ours = RECORDING.digests(CARRIED, "carried")
    assert len(set(ours)) > CARRIED * 0.9
    assert first_difference(ours, child(sys.executable, "424242", carried=CARRIED)) == ""


@pytest.mark.long
@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_on_another_python_with_nothing_installed(here: list[str]) -> None:
    python = other_python()
    if python is None:
        pytest.skip(f"only Python {sys.version.split()[0]} is on this machine; looked for {', '.join(OTHERS)}")
    assert first_difference(here, child(python, "7")) == ""


def test_another_seed_gives_another_history(here: list[str]) -> None:
    assert len(set(here)) > SEEDS * 0.9


def test_the_long_scenario_is_long() -> None:
    assert len(RECORDING.histories(0)[0].splitlines()) > 1_000
