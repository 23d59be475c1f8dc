"""Runs in a child that has django-tasks-db: the harness's questions in its own models. Knows no harness."""

from __future__ import annotations

import datetime
import os
import uuid
from typing import Any

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Requests are coroutines of one thread, and come one after the other.

import django
from django.conf import settings
from django.db import DataError
from psycopg.conninfo import conninfo_to_dict


class TaskRefused(Exception):
    """Nothing happened."""


class DjangoTaskFailed(Exception):
    """What a task raises here: its text is what the harness said."""


def next_id() -> uuid.UUID:
    """Return the id of the next task: in every run the same ones, in the order in which they were sent."""
    DjangoTasksAnswers.count += 1
    return uuid.UUID(int=DjangoTasksAnswers.count)


class DjangoTasksAnswers:
    """One Django project on one database; its own clock is set with each question."""

    count = 0

    async def open(self, url: str) -> None:
        """Set the project up, and migrate."""
        parts = conninfo_to_dict(url)
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.get("dbname"),
            "USER": parts.get("user", ""),
            "PASSWORD": parts.get("password", ""),
            "HOST": parts.get("host", ""),
            "PORT": str(parts.get("port", "")),
            "CONN_MAX_AGE": None,
        }
        backend = {"BACKEND": "django_tasks_db.DatabaseBackend", "OPTIONS": {"id_function": next_id}}
        core = django.VERSION >= (6,)
        apps = ["django_tasks_db"] if core else ["django_tasks", "django_tasks_db"]
        settings.configure(
            DATABASES={"default": database},
            INSTALLED_APPS=apps,
            TASKS={"default": backend},
            USE_TZ=True,
            SECRET_KEY="not a secret",
            LOGGING_CONFIG=None,
        )
        django.setup()
        from django.core.management import call_command
        from django_tasks_db import utils

        call_command("migrate", verbosity=0)
        utils.time.sleep = lambda seconds: None  # It writes an outcome three times, a tenth of a second apart.
        self._declare(core)

    def _declare(self, core: bool) -> None:
        if core:
            from django.tasks import task
        else:
            from django_tasks import task

        def tool(**kwargs: Any) -> Any:
            raise AssertionError("the harness says what comes of a task")

        tool.__module__, tool.__qualname__ = __name__, "tool"
        globals()["tool"] = self.task = task(tool)
        self.claimed: dict[str, Any] = {}

    async def reset(self) -> None:
        """Forget what is known of the run before; the table is emptied by the parent."""
        DjangoTasksAnswers.count = 0
        self.claimed.clear()

    async def enqueue(self, now: str, kwargs: dict[str, Any], priority: int, run_after: str | None) -> str:
        """Enqueue a task; returns its id."""
        self._set(now)
        after = None if run_after is None else datetime.datetime.fromisoformat(run_after)
        try:
            return str(self.task.using(priority=priority, run_after=after).enqueue(**kwargs).id)
        except (DataError, TypeError, ValueError) as error:
            raise TaskRefused(f"invalid input: {error}") from error

    async def claim(self, now: str, worker: str, limit: int) -> list[dict[str, Any]]:
        """Claim up to `limit` tasks, as the loop of `db_worker` claims one."""
        from django_tasks_db.models import DBTaskResult
        from django_tasks_db.utils import exclusive_transaction

        self._set(now)
        claimed = []
        for _ in range(limit):
            tasks = DBTaskResult.objects.ready().filter(backend_name="default").filter(queue_name__in=["default"])
            with exclusive_transaction(tasks.db):
                found = tasks.get_locked()
                if found is not None:
                    found.claim(worker)
            if found is None:
                break
            self.claimed[str(found.id)] = found
            told = found.args_kwargs["kwargs"]
            claimed.append(
                {"id": str(found.id), "job": told["job"], "tool": told["tool"], "runs": len(found.worker_ids)}
            )
        return claimed

    async def complete(self, now: str, id: str, output: Any) -> None:
        """Do what `run_task` does when the task has returned: what cannot be recorded fails it."""
        self._set(now)
        try:
            self.claimed[id].set_successful(output)
        except BaseException as error:  # noqa: BLE001 - as `run_task` does
            self.claimed[id].set_failed(error)

    async def fail(self, now: str, id: str, message: str) -> None:
        """Do what `run_task` does when the task has raised."""
        self._set(now)
        self.claimed[id].set_failed(DjangoTaskFailed(message))

    @staticmethod
    def _set(now: str) -> None:
        from django.utils import timezone

        moment = datetime.datetime.fromisoformat(now)
        timezone.now = lambda: moment


Answers, Refused = DjangoTasksAnswers, TaskRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
