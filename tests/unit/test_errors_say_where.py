"""An error says where the file names what is not there, and repeats no endless name."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_harness.doors.cli import main
from job_harness.errors import UsageError

SCENARIO = "format: 1\ntitle: One\n{what}\njobs:\n  a: {{}}\nexpect:\n  a: {{status: COMPLETED}}\n{controls}\n"
ENDLESS = "x" * 5000
APART = "x y " * 1250


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("what", "controls", "told"),
    [
        ("application: no.py:make", "", "one.yaml:3: application: there is no file no.py"),
        ("application: no_module:make", "", "one.yaml:3: importing no_module failed"),
        ("", "controls:\n  - {engine: nosuch@3, finds: lost}", "one.yaml:9: no such engine: 'nosuch'"),
        (
            "application: ok.py:make",
            "controls:\n  - {application: no.py:m, finds: lost}",
            "one.yaml:9: application: there",
        ),
        ('processors: {tool: "no_module:f"}', "", "one.yaml:3: the processor 'no_module:f'"),
    ],
)
def test_what_is_not_there_is_told_with_its_line(
    folder: Path, what: str, controls: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ok.py").write_text("from job_harness.engines.memory import MemoryEngine as make\n")
    (folder / "one.yaml").write_text(SCENARIO.format(what=what, controls=controls.replace("lost", "attempt_overrun")))
    assert main(["run", "one.yaml"]) == 2
    assert told in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", [ENDLESS, APART])
def test_no_error_repeats_an_endless_name(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "key.yaml").write_text(f'format: 1\n"{name}": 1\njobs: {{a: {{}}}}\n')
    (folder / "step.yaml").write_text(f'format: 1\njobs: {{a: {{}}}}\nsteps: ["{name}"]\n')
    (folder / "queue.yaml").write_text(f'format: 1\njobs: {{a: {{}}}}\nqueue: "{name}"\n')
    (folder / "tool.yaml").write_text(f'format: 1\njobs: {{a: {{}}}}\nprocessors: {{"{name}": "m:f"}}\n')
    commands = [
        ["run", "key.yaml", "--annotations"],
        ["run", "step.yaml"],
        ["run", "queue.yaml"],
        ["run", "tool.yaml"],
        ["run", "--engine", name],
        ["run", "--engine", f"memory+{name}"],
        ["run", "--set", f"{name}=1"],
        ["run", name],
    ]
    if name is ENDLESS:
        commands += [
            ["explore", f"{name}.py:make"],
            ["conform", f"pgboss@{name}"],
            ["check", ".", "--without", name],
            ["verify", name, "--dsn", "x"],
            ["run", "queue.yaml", "--json", name],
            ["check", name],
        ]
    for command in commands:
        assert main(command) == 2
        told = capsys.readouterr()
        assert len(told.out + told.err) < 2500, command[:2]
        assert name not in told.out + told.err


def test_a_message_of_ordinary_length_stays_whole() -> None:
    message = f"{'/folder' * 40}/file.py: there is no such file, " + "and more words " * 100
    assert UsageError(message).message == message
