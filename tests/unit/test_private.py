"""What is executed later lies where only this user could have put it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds import packages, private
from job_harness.worlds.patience import Deadline

STRANGER = 54_321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def usual(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `tmp_path` be the temporary folder of everybody; the answer is the cache's place in it."""
    tmp_path.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"job-harness-cache-{os.geteuid()}"


def test_the_cache_is_where_it_is_told_to_be(tmp_path: Path) -> None:
    both = {"JOB_HARNESS_CACHE": str(tmp_path / "chosen"), "HOME": str(tmp_path / "home")}
    assert private.cache_folder(environ=both) == tmp_path / "chosen"
    assert private.cache_folder("npm", environ=both) == tmp_path / "chosen" / "npm"
    xdg = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home")}
    assert private.cache_folder(environ=xdg) == tmp_path / "xdg" / "job-harness"


@pytest.mark.usefixtures("open_umask")
def test_what_is_made_is_closed_whatever_the_umask_says(tmp_path: Path) -> None:
    folder = private.cache_folder("npm", environ=usual(tmp_path))
    with private.locked(folder / "a.lock", within=Deadline(1), doing="nothing"):
        pass
    made = [folder, folder.parent, folder.parent.parent]
    assert [mode(path) for path in made] == [0o700] * 3
    assert mode(folder / "a.lock") == 0o600


@pytest.mark.usefixtures("open_umask")
def test_what_an_installer_writes_is_closed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_HARNESS_CACHE", str(tmp_path / "cache"))
    write = [sys.executable, "-c", "open('plans.js', 'w').close()"]
    calls: list[Path] = []

    def install(folder: Path) -> None:
        calls.append(folder)
        packages.run(write, seconds=20, what="", hint="", cwd=folder)

    folder = packages.installed("npm", "thing@1.0.0", install)
    assert (mode(folder), mode(folder / "plans.js")) == (0o700, 0o600)
    assert packages.installed("npm", "thing@1.0.0", install) == folder
    assert len(calls) == 1, "what was just installed is not trusted"


def test_a_package_that_others_could_change_is_installed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_HARNESS_CACHE", str(tmp_path / "cache"))
    calls: list[Path] = []

    def install(folder: Path) -> None:
        calls.append(folder)
        (folder / "plans.js").touch(0o600)

    folder = packages.installed("npm", "thing@1.0.0", install)
    (folder / "plans.js").chmod(0o666)
    assert packages.installed("npm", "thing@1.0.0", install) == folder
    assert (len(calls), mode(folder / "plans.js")) == (2, 0o600)


@pytest.mark.parametrize("variable", ["JOB_HARNESS_CACHE", "HOME"])
def test_a_cache_that_others_may_write_to_is_refused_with_what_to_do(tmp_path: Path, variable: str) -> None:
    folder = tmp_path if variable == "JOB_HARNESS_CACHE" else tmp_path / ".cache" / "job-harness"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    with pytest.raises(EnvironmentUnavailable, match=r"others may write to .* \(mode 777\)") as told:
        private.cache_folder(environ={variable: str(tmp_path)})
    assert told.value.hint
    assert mode(folder) == 0o777, "a folder that the user named is not ours to change"


def test_a_folder_on_the_way_counts(tmp_path: Path) -> None:
    (tmp_path / "everybodys").mkdir()
    (tmp_path / "everybodys").chmod(0o777)
    with pytest.raises(EnvironmentUnavailable, match=r"others may write to .*everybodys"):
        private.cache_folder(environ={"JOB_HARNESS_CACHE": str(tmp_path / "everybodys" / "mine")})


def test_a_link_of_ours_is_followed_to_where_it_is_safe_only(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "link").symlink_to("elsewhere")
    chosen = {"JOB_HARNESS_CACHE": str(tmp_path / "link")}
    assert private.cache_folder(environ=chosen) == tmp_path / "elsewhere"
    (tmp_path / "elsewhere").chmod(0o777)
    with pytest.raises(EnvironmentUnavailable, match="others may write to"):
        private.cache_folder(environ=chosen)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(EnvironmentUnavailable, match="circle"):
        private.cache_folder(environ={"JOB_HARNESS_CACHE": str(tmp_path / "circle")})


def test_a_link_in_the_place_of_an_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(0o755)
    (tmp_path / "found").symlink_to("target")
    with pytest.raises(NotADirectoryError, match="this is a link"):
        private.private_folder(tmp_path / "found")
    assert mode(tmp_path / "target") == 0o755


@needs_root
def test_a_strangers_link_in_the_temporary_folder_is_gone_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = in_temporary_folder(tmp_path, monkeypatch)
    (tmp_path / "prepared").mkdir(0o755)
    place.symlink_to("prepared")
    os.lchown(place, STRANGER, STRANGER)
    folder = private.cache_folder(environ={})
    assert folder.parent == tmp_path
    assert folder.name not in (place.name, "prepared")
    assert mode(tmp_path / "prepared") == 0o755, "what the link leads to was changed"
    assert private.cache_folder(environ={}) == folder, "one process has one fresh folder"


@needs_root
def test_a_strangers_folder_is_gone_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = in_temporary_folder(tmp_path, monkeypatch)
    place.mkdir(0o777)
    os.lchown(place, STRANGER, STRANGER)
    assert private.cache_folder(environ={}) != place
    with pytest.raises(EnvironmentUnavailable, match=f"belongs to uid {STRANGER}"):
        private.cache_folder(environ={"JOB_HARNESS_CACHE": str(place)})


@needs_root
def test_a_strangers_file_in_a_package_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir(0o700)
    (tmp_path / "deep" / "plans.js").touch(0o600)
    assert private.all_ours(tmp_path)
    os.lchown(tmp_path / "deep" / "plans.js", STRANGER, STRANGER)
    assert not private.all_ours(tmp_path)


def test_a_fresh_folder_ends_with_its_process(tmp_path: Path) -> None:
    ask = "from job_harness.worlds.private import cache_folder; print(cache_folder(environ={'HOME': '/proc/nowhere'}))"
    blocked = tmp_path / f"job-harness-cache-{os.geteuid()}"
    blocked.touch()
    told = subprocess.run(
        [sys.executable, "-c", ask], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    folder = Path(told.stdout.strip())
    assert folder.parent == tmp_path
    assert not folder.exists()


def test_a_lock_that_is_held_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with (
        private.locked(path, within=Deadline(1), doing="nothing"),
        pytest.raises(EnvironmentUnavailable, match=r"has held .*a\.lock for 0 s") as told,
        private.locked(path, within=Deadline(0), doing="installing pg-boss"),
    ):
        pass
    assert "It is installing pg-boss" in told.value.hint


def test_a_folder_of_findings_is_ignored_by_git_and_keeps_what_its_user_wrote(tmp_path: Path) -> None:
    found = private.ignored_folder(tmp_path / ".job-harness" / "found")
    ignored = found.parent / ".gitignore"
    assert (mode(found), ignored.read_text()) == (0o700, "*\n")
    ignored.write_text("failures/\n")
    private.ignored_folder(found)
    assert ignored.read_text() == "failures/\n"
