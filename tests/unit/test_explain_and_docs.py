"""Every name on a screen can be explained, the docs are there as one text, and a coding assistant gets its steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs import pages

from job_harness.core.faults import kinds
from job_harness.core.invariants import ANOMALIES, CATALOGUE
from job_harness.core.invariants.property import Guarantee
from job_harness.core.model.design import Design
from job_harness.core.model.settings import Settings
from job_harness.doors.cli import COMMANDS, main
from job_harness.doors.cli.explain_command import OF_A_TEST, REPAIRS, find_explanation
from job_harness.doors.cli.project_commands import SKILL
from job_harness.doors.documentation import TEXT, about, documentation, split, whole
from job_harness.errors import UsageError
from job_harness.review.check.catalogue import RULES
from job_harness.review.check.pages import rule_pages
from job_harness.search.wrong_queues.catalogue import CATALOGUE as MISTAKES

NAMES = [*ANOMALIES, *OF_A_TEST, *(each.id for each in CATALOGUE), *RULES, *kinds(), *MISTAKES, *Settings.names()]
NAMES += [*Design]


def test_every_name_has_an_explanation_that_fits_a_screen() -> None:
    for name in NAMES:
        lines = find_explanation(name)
        assert lines[0].startswith(f"{name}: ")
        assert len(lines) <= 24
        assert all(len(line) <= 100 for line in lines)


def test_what_repairs_is_said_of_every_guarantee() -> None:
    assert set(REPAIRS) == set(Guarantee)
    assert "Give each claim a token" in "\n".join(find_explanation("stale_complete"))


def test_a_word_of_design_is_explained_as_the_docs_have_it() -> None:
    told = {str(each): "\n".join(find_explanation(each)) for each in Design}
    assert [word for word, text in told.items() if "see `job-harness docs" in text] == []
    assert "none arrives twice or late" in told["called in process"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("lose reply", "lost_message: "),  # on a tape
        ("late wake-ups", "lateness: "),  # where a search counts them
        ("situations", "situation: "),
        ("Sessions", "session: "),
        ("gated", "statement gating: "),
        ("visibility timeout", "lease: "),
        ("visibility_timeout", "lease: "),
        ("Lost update", "lost_update: "),
        ("retries", "retry: "),
        ("CANCELLED", "COMPLETED, FAILED, CANCELLED: "),
    ],
)
def test_words_on_a_screen_lead_to_what_they_mean(words: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words.split()]) == 0
    told = capsys.readouterr().out
    assert told.startswith(found)
    assert told.endswith(".\n") or "a word of the glossary" not in told


def test_a_setting_says_what_it_does_and_what_it_is_unless_set() -> None:
    assert find_explanation("heartbeat_interval")[:3] == [
        "heartbeat_interval: a setting (default: 0s)",
        "",
        "A worker extends its leases this often; null or 0: never.",
    ]
    assert "visibility timeout, lock duration.\n" in "\n".join(find_explanation("lease"))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'expire-never'"):
        find_explanation("exprie-never")
    assert main(["explain", "exprie-never"]) == 2


def test_explain_takes_several_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "orphan_row", "tables_disagree"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("orphan_row: an anomaly")
    assert "tables_disagree: an anomaly" in told
    assert "Of a batch, settle each job by itself" in told
    assert main(["explain", "orphan_row", "tables_disagre"]) == 2
    assert "did you mean 'tables_disagree'" in capsys.readouterr().err


def test_explain_alone_lists_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert [name for name in NAMES if name not in listed] == []


def test_the_docs_are_one_text_from_which_each_page_comes_back() -> None:
    parts = split(documentation())
    assert [f"{page.stem}" for page in pages.PAGES if page.parent.name == "docs" and page.stem not in parts] == []
    assert parts["typescript"] == (pages.ROOT / "docs/typescript.md").read_text(encoding="utf-8").strip() + "\n"
    assert split(whole(pages.ROOT)) == parts
    assert about("# A title\n\n<!-- x -->\nFirst [one](a.md). Second.\n") == ("A title", "First one.")
    first = {name: about(text)[1] for name, text in parts.items()}
    assert {name: said for name, said in first.items() if not re.match(r"[A-Z`*].*[.”\"]$", said)} == {}
    assert first["picture"].startswith("`--html FILE` draws what happened in one HTML file, ")
    assert first["results/detection"].startswith("This page says how many runs")
    assert first["contracts/effect"].startswith("A *side effect* is")


def test_docs_prints_a_page_lists_and_finds(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("glossary", "docs/glossary.md#token"):  # as messages name it, too
        assert main(["docs", page]) == 0
        assert capsys.readouterr().out.startswith("# Glossary")
    assert main(["docs", "--find", "replay token pytest"]) == 0
    assert "pytest: " in capsys.readouterr().out
    assert main(["docs", "--find", "celery task"]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("symptoms: ")]
    assert found[0].startswith(("tasks: ", "celery_on_redis: "))
    assert not [line for line in found if line.startswith("tasks: tests/")], "a comment in code is no heading"
    assert main(["docs", "--find", "unfindable words"]) == 1
    assert main(["docs", "glosary"]) == 2
    assert "did you mean 'glossary'?" in capsys.readouterr().err


def test_each_rule_of_check_is_on_one_page_of_the_docs_and_found_there(capsys: pytest.CaptureFixture[str]) -> None:
    headings = [name for page in rule_pages().values() for name in re.findall(r"^## (\w+)$", page, re.M)]
    assert sorted(headings) == sorted(RULES)
    assert main(["docs", "--find", "singletonKey inert"]) == 0
    assert "rules/pg-boss: singleton_key_inert\n" in capsys.readouterr().out
    assert main(["docs", "rules/celery"]) == 0
    assert f"\n## acks_late_loses_killed\n\n{RULES['acks_late_loses_killed'].sentence}" in capsys.readouterr().out


def test_the_skill_names_commands_and_pages_that_exist() -> None:
    text = SKILL.read_text(encoding="utf-8")
    front = text.split("---")[1]
    assert re.search(r"^name: job-harness$", front, re.M)
    assert re.search(r"^description: .{40,1000}$", front, re.M)
    assert {command for command in re.findall(r"job-harness (\w+)", text) if command not in COMMANDS} <= {"on", "runs"}
    named = {page for row in re.findall(r"\| `(\w+)` \|$", text, re.M) for page in [row]}
    assert named
    assert named <= set(split(documentation()))


def test_init_agent_writes_the_skill_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path), "--agent"]) == 0
    written = tmp_path / ".agents/skills/job-harness/SKILL.md"
    assert written.read_text(encoding="utf-8") == SKILL.read_text(encoding="utf-8")
    assert main(["init", str(tmp_path), "--agent"]) == 2
    assert "already exists" in capsys.readouterr().err
    (tmp_path / ".claude").mkdir()
    assert main(["init", str(tmp_path), "--agent"]) == 0
    assert (tmp_path / ".claude/skills/job-harness/SKILL.md").is_file()


def test_a_build_puts_the_text_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / TEXT).write_text("<!-- page: docs/a.md -->\n\n# A\n", encoding="utf-8")
    monkeypatch.setattr("job_harness.doors.documentation.__file__", str(tmp_path / "documentation.py"))
    assert split(documentation()) == {"a": "# A\n"}
