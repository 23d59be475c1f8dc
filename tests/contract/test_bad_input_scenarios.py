"""Hostile scenario files: each is named with its line, costs exit code 2, and never a hang."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.leftovers import Place, clean_place

from job_harness.doors.cli import main

HEAD = "format: 1\ntitle: hostile\n"
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)

FILES = {
    "wrong key": (HEAD + "jops:\n  a: {}\n", ":3:", "jobs"),
    "wrong type": (HEAD + "jobs:\n  a: {priority: high}\n", ":4:", "priority"),
    "unknown job": (HEAD + "jobs:\n  a: {}\nsteps:\n  - crash w1 while running b\n", ":6:", "b"),
    "no step": (HEAD + "jobs:\n  a: {}\nsteps:\n  - w1 eats a\n", ":6:", "no such step"),
    "alias bomb": (HEAD + BOMB, "hostile.yaml:", "aliases expand to more than"),
    "ten megabytes": (HEAD + "#" * 10_000_000, ":1:", "1 000 000 bytes"),
    "binary": (bytes(range(256)) * 40, ":", "not UTF-8"),
    "broken in the middle": (HEAD + "jobs:\n  a: {takes: [}\n", ":4:", "not valid YAML"),
    "empty": ("", ":1:", "the file is empty"),
    "deep": (HEAD + "jobs: " + "[" * 5000, ":3:", "nested deeper"),
    "a list": ("- 1\n", ":1:", "mapping"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_is_refused_with_its_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, where, words = FILES[case]
    path = tmp_path / "hostile.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert main(["run", str(path)]) == 2
    said = capsys.readouterr().err
    assert "hostile.yaml" in said
    assert where in said
    assert words in said
    assert "Traceback" not in said


def test_an_impossible_step_fails_with_its_line_and_where_its_actor_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("hostile.yaml")
    path.write_text(HEAD + "jobs:\n  a: {}\nsteps:\n  - run until idle\n  - crash w1 while running a\n")
    assert main(["run", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "hostile.yaml:7: crash w1 while running a: w1 never reached 'running a'" in said


def test_folders_and_links_that_lead_nowhere_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "self.yaml").symlink_to("self.yaml")
    for name, words in (
        ("empty", "no scenarios in this folder"),
        ("self.yaml", "leads nowhere, or to itself"),
        ("missing.yaml", "no such file or folder"),
        ("/dev/null", "is not a regular file"),
    ):
        assert main(["run", name]) == 2
        assert words in capsys.readouterr().err
    assert main(["run"]) == 2
    assert "there is no folder scenarios/ here" in capsys.readouterr().err


def test_a_folder_that_contains_itself_is_walked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yaml").write_text(HEAD + "jobs:\n  a: {}\n")
    (tmp_path / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "self").symlink_to(".", target_is_directory=True)
    assert main(["run", str(tmp_path)]) == 0
    assert "1 scenario" in capsys.readouterr().out


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with clean_place(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(place: Place) -> None:
    os.mkfifo(place.folder / "pipe.yaml")
    ended = place.run("run", "pipe.yaml")
    assert ended.code == 2
    assert "pipe.yaml: is not a regular file" in ended.said


def test_an_unreadable_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(HEAD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    assert main(["run", str(path)]) == 2
    assert "secret.yaml: cannot be read: Permission denied" in capsys.readouterr().err
