"""`init` drafts a system file of what a repository says it starts, and asks for the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from job_harness.doors.scaffold.first_files import search_steps
from job_harness.doors.scaffold.plan import find_project
from job_harness.doors.scaffold.system_draft import draft_system
from job_harness.errors import UsageError
from job_harness.subjects.systems.document import read_system_file

SCRIPTS = """{"scripts": {"dev": "tsx watch src/index.ts", "start": "node dist/index.js",
  "start:worker": "tsx src/worker.ts", "worker:watch": "tsx --watch src/worker.ts"}, "dependencies": {"bullmq": "5"}}"""
COMPOSE = """
services:
  db: {image: postgres}
  api: {build: ., command: [gunicorn, "--worker-class", gevent, "shop:app"]}
  jobs-consumer: {build: ., command: "alembic upgrade head && python consume.py"}
"""
REPOSITORIES = [
    (
        {"package.json": SCRIPTS},
        {"start-worker": ("npm", "run", "start:worker"), "start": ("node", "dist/index.js")},
        "jobs: bullmq",
    ),
    (
        {
            "Procfile": "web: bin/web\nworker: celery -A shop worker\nconsumer: bin/c\n",
            "requirements.txt": "celery[redis]==5\npsycopg\n",
        },
        {"worker": ("celery", "-A", "shop", "worker"), "consumer": ("bin/c",), "web": ("bin/web",)},
        "jobs: celery",
    ),
    (
        {"docker-compose.yml": COMPOSE, "requirements.txt": "asyncpg\n"},
        {
            "jobs-consumer": ("sh", "-c", "alembic upgrade head && python consume.py"),
            "api": ("gunicorn", "--worker-class", "gevent", "shop:app"),
        },
        "# jobs: SELECT",
    ),
    (
        {"pyproject.toml": "[project]\n", "shop/worker.py": "while True: ...\nif __name__ == '__main__': ...\n"},
        {"worker": ("python", "shop/worker.py")},
        "# jobs: SELECT",
    ),
    ({"package.json": '{"scripts": {"start": "node index.js", "dev": "node worker.js --watch"}}'}, {}, ""),
]


@pytest.mark.parametrize(("files", "started", "jobs"), REPOSITORIES, ids=lambda each: " ".join(each)[:30])
def test_a_draft_has_what_the_files_say_and_is_a_system_file_once_its_questions_are_answered(
    files: dict[str, str], started: dict[str, tuple[str, ...]], jobs: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".git").mkdir()
    draft = draft_system(find_project(tmp_path))
    if not started:
        assert draft == ""
        return
    path = tmp_path / "system.yaml"
    path.write_text(draft)
    assert search_steps(tmp_path) == ""  # No workflow searches what is not answered.
    with pytest.raises(UsageError, match=r"the key '(send|jobs)' is missing"):
        read_system_file(str(path))
    path.write_text(re.sub(r"^# (?=\w+: )(?!All keys)", "", draft, flags=re.MULTILINE))
    (tmp_path / "schema.sql").write_text("")
    file = read_system_file(str(path))
    assert {kind.name: kind.command for kind in file.processes} == started
    assert [kind.name for kind in file.processes if kind.takes_requests] == [
        name for name in started if name in ("web", "api", "start")
    ]
    assert re.search(f"^{re.escape(jobs)}", draft, re.MULTILINE)
