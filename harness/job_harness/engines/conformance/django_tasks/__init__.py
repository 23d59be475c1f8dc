"""What every backend of Django's tasks must keep; a class to subclass in the backend's own test suite.

Promises are those of Django's manual (topics/tasks and ref/tasks); what a backend says that it does
not support is skipped by name. Needs pytest-django, and imports Django only inside a test. Must not
know: any particular backend.
"""

from __future__ import annotations

import os
import select
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

import freezegun
import pytest

from job_harness.errors import UsageError, did_you_mean

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
PATIENCE: Final = 60.0
"""Real seconds for a worker in a process of its own."""
HARD_ERRORS: Final = ("NUL", "lone surrogate", "huge", "unspeakable", "exit", "cyclic cause")
HARD_RESULTS: Final = ("no JSON", "NaN", "NUL", "lone surrogate", "bytes", "cyclic", "huge")


class DjangoTasksConformance:
    """Subclass it, and say which backend it is and how a worker of it runs all tasks that are due.

    `BACKEND` is an alias of `settings.TASKS`. `run_worker` runs what is due now and returns; a backend that runs tasks
    as they are enqueued has nothing to do there. `at` sets the time of day for backends that do not ask Python for it.
    """

    pytestmark = [pytest.mark.django_db(transaction=True)] if find_spec("pytest_django") else []

    BACKEND: ClassVar[str] = "default"
    QUEUE: ClassVar[str] = "default"
    """A queue that the backend takes tasks for."""
    RECOVERS_AFTER: ClassVar[timedelta | None] = None
    """After how long the task of a worker that was killed is run again, or failed; None: never, which is skipped."""
    KNOWN: ClassVar[Mapping[str, str]] = {}
    """Tests that are known to fail, each with the place where that is told; one that passes after all fails."""

    def run_worker(self) -> None:
        """Run every task that is due, and return."""
        raise NotImplementedError(f"{type(self).__name__}.run_worker: run all tasks that are due, and return")

    def at(self, moment: datetime) -> AbstractContextManager[Any]:
        """Let it be this time for the backend and its worker."""
        return freezegun.freeze_time(moment)

    # what the tests stand on ----------------------------------------------------------------------------------------

    @classmethod
    def setup_class(cls) -> None:
        """Refuse a known failure that is no test. Raises UsageError."""
        tests = [name for name in dir(cls) if name.startswith("test_")]
        for name in cls.KNOWN:
            if name.partition("[")[0] not in tests:
                raise UsageError(f"{cls.__name__}.KNOWN names {name}, which is no test{did_you_mean(name, tests)}")

    @pytest.fixture(autouse=True)
    def _backend_under_test(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        if not request.config.pluginmanager.hasplugin("django"):
            pytest.skip("pytest-django is not at work here: pip install pytest-django, and set DJANGO_SETTINGS_MODULE")
        self.log = str(tmp_path / "ran")
        self.tasks = import_module("job_harness.engines.conformance.django_tasks.tasks")
        known = self.KNOWN.get(request.node.name) or self.KNOWN.get(request.node.originalname)
        if known:
            request.applymarker(pytest.mark.xfail(reason=known, strict=True))

    def work(self) -> None:
        """Run the worker; a command of Django's may end with the code 0, and no other."""
        try:
            self.run_worker()
        except SystemExit as end:
            if end.code:
                pytest.fail(f"the worker ended with the code {end.code}")

    @property
    def backend(self) -> Any:
        """The backend."""
        core = "django.tasks" if self.tasks.django.VERSION >= (6,) else "django_tasks"
        return import_module(core).task_backends[self.BACKEND]

    def enqueue(self, name: str, *arguments: Any, using: Mapping[str, Any] | None = None, **keywords: Any) -> Any:
        """Enqueue one of the tasks of `tasks` to the backend, with a place for it to write down that it ran."""
        task = getattr(self.tasks, name).using(backend=self.BACKEND, queue_name=self.QUEUE, **(using or {}))
        return task.enqueue(self.log, *arguments, **keywords)

    def ran(self) -> list[str]:
        """List the tasks that ran, as often as they did."""
        path = Path(self.log)
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def supported(self, what: str) -> None:
        """Skip where the backend says that it does not support this."""
        if not getattr(self.backend, f"supports_{what}"):
            pytest.skip(f"{self.BACKEND} declares supports_{what} = False")

    def refreshed(self, result: Any) -> Any:
        """Return a result as the backend has it now."""
        if self.backend.supports_get_result:
            result.refresh()
        return result

    def ended(self, result: Any, status: str) -> Any:
        """Return a result that has to have ended so."""
        seen = self.refreshed(result)
        assert seen.status == getattr(self.tasks.TaskResultStatus, status), (
            f"{seen.id} is {seen.status} after its worker ran, and has to be {status}: "
            f"{[error.traceback[-300:] for error in seen.errors]}"
        )
        return seen

    def in_a_process(self, work: Callable[[], None]) -> int:
        """Do something in a forked process that may die of it; return the code that it ended with."""
        from django.db import connection, connections

        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            pytest.skip("a database in memory ends with its process: give DATABASES['default']['TEST'] a NAME")
        connections.close_all()
        theirs, ours = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # The process starts no thread before it ends.
            child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(0)
        os.close(ours)
        gone, _, _ = select.select([theirs], [], [], PATIENCE)  # noqa: TID251 - this file is all that it needs
        os.close(theirs)
        if not gone:
            os.kill(child, 9)
        status = os.waitpid(child, 0)[1]
        assert gone, f"the worker did not end within {PATIENCE:g} s"
        return os.waitstatus_to_exitcode(status)

    # core -----------------------------------------------------------------------------------------------------------

    def test_a_task_runs_once_and_its_value_is_kept(self) -> None:
        """A result is SUCCESSFUL with the value that the function returned (topics/tasks, Task results)."""
        sent = {"text": "grün 🦊", "number": 2**53, "nested": [None, True, {"a": 1.5}]}
        result = self.enqueue("returns", "a", value=sent)
        self.work()
        self.work()
        assert self.ran() == ["a"]
        assert self.ended(result, "SUCCESSFUL").return_value == sent

    def test_a_task_that_raises_has_failed_and_says_with_what(self) -> None:
        """A result is FAILED with the class and the traceback of the error (topics/tasks, Task results)."""
        result = self.enqueue("raises", "a", "plain")
        self.work()
        seen = self.ended(result, "FAILED")
        assert seen.errors[-1].exception_class is ValueError
        assert "it failed" in seen.errors[-1].traceback
        with pytest.raises(ValueError):  # noqa: PT011 - its words are the backend's own
            _ = seen.return_value

    def test_arguments_that_json_cannot_hold_are_refused_when_they_are_sent(self) -> None:
        """Arguments have to be JSON; what is not raises TypeError, and nothing runs (topics/tasks, Enqueueing)."""
        with pytest.raises((TypeError, ValueError)):
            self.enqueue("returns", "a", value=object())
        self.work()
        assert self.ran() == []

    def test_a_task_that_takes_context_is_told_its_attempt(self) -> None:
        """The context has the result and the number of the attempt, from 1 (topics/tasks, Task context)."""
        result = self.enqueue("tells_its_attempt", "a")
        self.work()
        assert self.ended(result, "SUCCESSFUL").return_value == [str(result.id), 1]

    def test_times_are_in_order(self) -> None:
        """A result says when it was enqueued, started and finished (ref/tasks, TaskResult)."""
        result = self.enqueue("returns", "a")
        self.work()
        seen = self.ended(result, "SUCCESSFUL")
        assert seen.enqueued_at <= seen.started_at <= seen.finished_at

    def test_one_failure_does_not_stop_the_others(self) -> None:
        """What is enqueued behind a task that fails runs."""
        self.enqueue("raises", "a", "plain")
        result = self.enqueue("returns", "b")
        self.work()
        assert self.ran() == ["a", "b"]
        self.ended(result, "SUCCESSFUL")

    # what a backend may support -------------------------------------------------------------------------------------

    def test_a_result_is_found_by_its_id(self) -> None:
        """`get_result` returns the result of an id, and raises for any other (ref/tasks, supports_get_result)."""
        self.supported("get_result")
        result = self.enqueue("returns", "a", value=1)
        self.work()
        assert self.backend.get_result(result.id).return_value == 1
        with pytest.raises(self.tasks.TaskResultDoesNotExist):
            self.backend.get_result("00000000-0000-0000-0000-000000000000")

    def test_a_task_does_not_run_before_its_time(self) -> None:
        """A task with `run_after` runs then, and not before (topics/tasks, Deferring)."""
        if not self.backend.supports_defer:
            with pytest.raises(self.tasks.InvalidTask):
                self.enqueue("returns", "a", using={"run_after": NOW + HOUR})
            return
        with self.at(NOW):
            result = self.enqueue("returns", "a", using={"run_after": NOW + HOUR})
            self.work()
        with self.at(NOW + HOUR - timedelta(seconds=1)):
            self.work()
        assert self.ran() == []
        with self.at(NOW + HOUR + timedelta(seconds=1)):
            self.work()
        assert self.ran() == ["a"]
        self.ended(result, "SUCCESSFUL")

    def test_the_highest_priority_runs_first(self) -> None:
        """Larger numbers go first; a backend without priorities refuses them (topics/tasks, priority)."""
        if not self.backend.supports_priority:
            with pytest.raises(self.tasks.InvalidTask):
                self.enqueue("returns", "a", using={"priority": 5})
            return
        for name, priority in {"low": -10, "middle": 0, "high": 10}.items():
            self.enqueue("returns", name, using={"priority": priority})
        if self.ran():
            pytest.skip(f"{self.BACKEND} runs a task when it is enqueued")
        self.work()
        assert self.ran() == ["high", "middle", "low"]

    def test_a_coroutine_function_is_a_task(self) -> None:
        """A task may be an `async def` (ref/tasks, supports_async_task)."""
        self.supported("async_task")
        result = self.enqueue("returns_later", "a", value=[1])
        self.work()
        assert self.ended(result, "SUCCESSFUL").return_value == [1]

    # hostile --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", HARD_ERRORS)
    def test_an_error_is_recorded_whatever_it_is(self, kind: str) -> None:
        """A task that raises has FAILED, also where its text is hard to store, and the next task runs."""
        result = self.enqueue("raises", "a", kind)
        bystander = self.enqueue("returns", "b")
        self.work()
        self.ended(result, "FAILED")
        self.ended(bystander, "SUCCESSFUL")
        assert self.ran() == ["a", "b"]

    @pytest.mark.parametrize("kind", HARD_RESULTS)
    def test_a_value_is_kept_or_fails_its_task(self, kind: str) -> None:
        """A value that cannot be stored fails its task; it neither vanishes nor stops the worker."""
        result = self.enqueue("results_in", "a", kind)
        bystander = self.enqueue("returns", "b")
        self.work()
        seen = self.refreshed(result)
        assert seen.is_finished, f"{seen.id} is {seen.status} after its worker ran"
        self.ended(bystander, "SUCCESSFUL")

    # recovery -------------------------------------------------------------------------------------------------------

    def test_a_task_whose_worker_was_killed_comes_to_an_end(self) -> None:
        """What a killed worker was running is run again, or failed, within the time that the backend states."""
        if self.RECOVERS_AFTER is None:
            pytest.skip(f"{type(self).__name__}.RECOVERS_AFTER is None: the backend states no recovery")
        with self.at(NOW):
            result = self.enqueue("dies_once", "a")
            assert self.in_a_process(self.work) == self.tasks.KILLED
        assert self.ran() == ["a"]
        with self.at(NOW + self.RECOVERS_AFTER + timedelta(seconds=1)):
            self.work()
        later = NOW + 2 * self.RECOVERS_AFTER + HOUR
        with self.at(later):
            self.work()
        assert self.refreshed(result).is_finished, f"{result.id} is {result.status} for good: its worker was killed"

    def test_a_claimed_task_is_not_given_to_a_second_worker(self) -> None:
        """While one worker runs a task, another one does not."""
        if self.RECOVERS_AFTER is None:
            pytest.skip(f"{type(self).__name__}.RECOVERS_AFTER is None: the backend states no recovery")
        with self.at(NOW):
            self.enqueue("dies_once", "a")
            assert self.in_a_process(self.work) == self.tasks.KILLED
            self.work()
        assert self.ran() == ["a"]
