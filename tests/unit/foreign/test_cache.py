"""A package is installed once; an installation that fails leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.extras import install
from job_harness.worlds import packages
from job_harness.worlds.private import cache_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOB_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_it_is_installed_once() -> None:
    calls: list[Path] = []

    def install(folder: Path) -> None:
        calls.append(folder)
        (folder / "thing").touch()

    first = packages.installed("npm", "thing@1.0.0", install)
    assert packages.installed("npm", "thing@1.0.0", install) == first
    assert calls == [first]
    assert (first / "thing").exists()


def test_what_fails_leaves_nothing_and_is_tried_again() -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise EnvironmentUnavailable("no such version")

    with pytest.raises(EnvironmentUnavailable, match="no such version"):
        packages.installed("npm", "thing@9.9.9", fails)
    assert not (cache_folder("npm") / "thing@9.9.9").exists()
    assert packages.installed("npm", "thing@9.9.9", lambda folder: None).exists()


def test_what_an_interrupted_installation_left_is_not_taken_for_the_package() -> None:
    half = cache_folder("npm") / "thing@1.0.0"
    (half / "node_modules").mkdir(parents=True)
    folder = packages.installed("npm", "thing@1.0.0", lambda folder: (folder / "whole").touch())
    assert sorted(path.name for path in folder.iterdir()) == [".installed", "whole"]


def test_a_cache_that_cannot_be_written_says_so(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = own_cache / "file"
    blocker.touch()
    monkeypatch.setenv("JOB_HARNESS_CACHE", str(blocker))
    with pytest.raises(EnvironmentUnavailable, match=r"cannot be the cache: .*file is not a folder"):
        packages.installed("npm", "thing@1.0.0", lambda folder: None)


def test_a_node_that_is_too_old_is_named_with_the_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v12.0.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "WHEEL", "there_is_no_such_wheel")
    monkeypatch.delenv(packages.VARIABLE, raising=False)
    with pytest.raises(EnvironmentUnavailable, match=r"Node 20\.0 or newer is needed, and .*node is 12\.0\.1") as told:
        packages.find_node()
    assert install("node") in str(told.value)


def test_a_machine_without_npm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentUnavailable, match="npm is not on the PATH"):
        packages.npm_package("pg-boss", "10.4.2")


def test_a_full_version_is_asked_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.newest_npm("pg-boss", "10.4.2") == "10.4.2"
    assert packages.newest_python("procrastinate", "3.8.1") == "3.8.1"


def test_the_newest_one_in_the_cache_will_do_without_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("12.9.0", "12.10.0", "10.4.2"):
        packages.installed("npm", f"pg-boss@{version}", lambda folder: None)
    assert packages.newest_npm("pg-boss", "12") == "12.10.0"
    assert packages.newest_npm("pg-boss", "latest") == "12.10.0"


def test_an_environment_without_pip_is_told_so_where_no_release_is_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EnvironmentUnavailable, match=r"no version 0\.26 of chancy is known here: .* has no pip"
    ) as told:
        packages.newest_python("chancy", "0.26")
    assert "uv pip install pip" in str(told.value)
    packages.installed("python", f"{packages._TAG}-chancy@0.26.0+psycopg", lambda folder: None)
    assert packages.newest_python("chancy", "0.26") == "0.26.0"


@pytest.mark.parametrize("newest", [packages.newest_npm, packages.newest_python])
def test_what_is_no_version_is_refused(newest: object) -> None:
    assert callable(newest)
    with pytest.raises(UsageError, match="'newest-ish' is not a version of thing"):
        newest("thing", "newest-ish")


@pytest.mark.parametrize("newest", [packages.newest_npm, packages.newest_python])
def test_digits_of_other_scripts_are_no_version(newest: object) -> None:
    assert callable(newest)
    with pytest.raises(UsageError, match="is not a version of thing"):
        newest("thing", "1.٢.3")


def fake(program: Path, says: str) -> None:
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    "answer", ['"../../../tmp/evil"', '"12.1.0; rm -rf"', '["13.0.0"]', "12", "{", '{"12": 1}', '"12.1.٢"']
)
def test_what_the_registry_answers_is_checked_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    fake(tmp_path / "npm", f"echo '{answer}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentUnavailable, match=r"npm view pg-boss@12 answered .* not a version of that kind"):
        packages.newest_npm("pg-boss", "12")


def test_the_newest_of_what_the_registry_answers_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "npm", """echo '["12.9.0", "12.10.0", "12.11.0-beta.1"]'""")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert packages.newest_npm("pg-boss", "12") == "12.10.0"


def test_npm_is_asked_in_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `.npmrc` of the current folder, a stranger's repository perhaps, may name another registry."""
    fake(tmp_path / "npm", "test -f package.json && test ! -e .npmrc && echo '\"12.3.4\"'")
    (tmp_path / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert packages.newest_npm("pg-boss", "12") == "12.3.4"


def test_a_module_of_the_current_folder_is_not_taken_for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("print('a stranger')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert packages.run([*packages.pip_command(), "--version"], seconds=60, what="pip", hint="").startswith("pip ")


def test_pip_takes_wheels_only() -> None:
    assert "--only-binary=:all:" in packages.PIP_OPTIONS
