"""A Celery application's own tasks under the harness: the example's tests, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs import pages

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.peers import python_package

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MORE = """
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import celery
import pytest
from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from job_harness import JobHarness, effect, exactly_once
from job_harness.errors import Hung, UsageError


@pytest.fixture
def app():
    return Celery("other", broker="memory://")


def test_early_acknowledgement_loses_what_a_dead_worker_held(job_harness, app):
    @app.task
    def once(x):
        return x

    shop = job_harness.register_celery(app)
    result = once.delay(1)
    job_harness.crash_worker(at="before starting")
    job_harness.run_until_idle()
    assert (result.state, result.job.attempts) == ("FAILURE", 1)
    assert repr(result) == f"<CeleryResult {result.id}: FAILURE>"


def test_what_a_worker_does_with_ignore_reject_and_a_late_failure(job_harness, app):
    calls = []

    @app.task
    def ignores():
        raise Ignore

    @app.task(acks_late=True)
    def rejects():
        calls.append("rejects")
        raise Reject("no", requeue=calls.count("rejects") < 3)

    @app.task(acks_late=True, acks_on_failure_or_timeout=False)
    def fails_at_first():
        calls.append("fails")
        if calls.count("fails") < 3:
            raise OSError("not yet")
        return calls.count("fails")

    job_harness.register_celery(app)
    sent = [ignores.delay(), rejects.delay(), fails_at_first.delay()]
    job_harness.run_until_idle()
    assert [each.state for each in sent] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert [each.job.attempts for each in sent] == [1, 3, 3]


def test_arguments_that_postgresql_refuses_and_a_broker_takes(job_harness, app):
    told = []

    @app.task(bind=True, max_retries=2, default_retry_delay=1)
    def clean(self, text, score=None):
        told.append((text, score, self.request.args, self.request.retries))
        if self.request.retries == 0:
            raise self.retry()

    job_harness.register_celery(app)
    clean.delay("a\\x00b", score=float("inf"))
    job_harness.run_until_idle()
    assert told == [("a\\x00b", float("inf"), ["a\\x00b"], retries) for retries in (0, 1)]
    with pytest.raises(UsageError, match="a Python object is not JSON"):
        clean.delay(object())


def test_what_celerys_json_holds_beyond_json_arrives_as_it_was_sent(job_harness, app):
    sent = [UUID(int=5), datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), Decimal("1.5"), b"x"]

    @app.task
    def echo(*args, **kwargs):
        return [*args, kwargs]

    job_harness.register_celery(app)
    assert echo.delay(*sent, order=sent[0]).get() == [*sent, {"order": sent[0]}]


def test_handlers_requests_and_names(job_harness, app):
    told = []

    class Telling(Task):
        def on_success(self, value, task_id, args, kwargs):
            told.append((value, task_id, list(args), kwargs))

    @app.task(base=Telling, bind=True, name="Other.do_it")
    def do_it(self, x, y=0):
        return [self.request.id, self.request.retries, x + y]

    job_harness.register_celery(app)
    result = app.send_task("Other.do_it", (1,), {"y": 2})
    assert UUID(result.id) and result.get() == [result.id, 0, 3]
    assert told == [([result.id, 0, 3], result.id, [1], {"y": 2})]
    assert result.job.tool == "other-do-it"
    assert job_harness.assert_enqueued("Other.do_it", input={"x": 1, "y": 2}).id == result.job.id
    job_harness.refute_enqueued("Other.do_it", status="FAILED")
    own = [do_it.apply_async((1,), task_id="task-3"), do_it.delay(1), do_it.apply_async((1,), task_id="task-1")]
    assert [len(each.jobs) for each in own] == [1, 1, 1]


def test_what_happens_once_does_so_over_all_retries_and_among_messages_with_the_same_arguments():
    sent = {1}
    app = Celery("mails", broker="memory://")

    @app.task(name="mail", autoretry_for=(OSError,), max_retries=2)
    def mail(user, tone="kind"):
        if user not in sent:
            sent.add(user)
            effect("mail", user=user)
        if not mail.request.retries:
            raise OSError("away")

    for per, users, found in ((), [2], []), (("user",), [3, 3], []), ((), [1], ["effect_missing"]):
        with JobHarness(invariants=[exactly_once("mail", per=per)]) as jobs:
            jobs.register_celery(app)
            for user in users:
                mail.delay(user).get()
            jobs.problems()
            assert [each.name for each in jobs.anomalies] == found


def test_what_is_not_kept_is_refused_by_name_and_tasks_are_given_back(job_harness, app):
    @app.task
    def one():
        return 1

    with pytest.raises(UsageError, match="is no Celery application"):
        job_harness.register_celery(object())
    job_harness.register_celery(app)
    with pytest.raises(UsageError, match="link is not kept here"):
        one.apply_async(link=one.s())
    with pytest.raises(UsageError, match=r"has no task 'test_more.on' \\(did you mean 'test_more.one'\\?\\)"):
        app.send_task("test_more.on")
    job_harness.close()
    assert "apply_async" not in vars(one)


def test_nobody_reaches_the_broker_or_the_result_backend(job_harness):
    app = Celery("away", broker="amqp://127.0.0.1:1//", backend="rpc://")

    @app.task
    def one(*of):
        return 1

    job_harness.register_celery(app)
    for chord in celery.chord([one.s(), one.s()], one.s()), celery.chain(celery.group(one.s(), one.s()), one.s()).delay:
        with pytest.raises(UsageError, match="a chord is not supported here"):
            chord()
    with pytest.raises(UsageError, match="group is not kept here"):
        celery.group(one.s(), one.s()).delay()
    with pytest.raises(UsageError, match="the application asks a result backend"):
        app.AsyncResult("x").get()
    for ask in app.control.inspect().active, app.control.purge, app.connection:
        with pytest.raises(UsageError, match="the application uses its broker"):
            ask()
    job_harness.close()
    assert type(app.backend).__name__ == "RPCBackend"
    assert app.connection().hostname == "127.0.0.1"


def test_a_message_that_has_expired_is_not_worked_on_nor_is_its_retry(job_harness, app):
    @app.task(bind=True, max_retries=2)
    def remind(self):
        effect("tried")
        raise self.retry(countdown=60)

    job_harness.register_celery(app)
    late, soon = remind.apply_async(countdown=120, expires=60), remind.apply_async(countdown=30, expires=60)
    job_harness.run_until_idle()
    assert (late.state, len(late.job.effects)) == ("REVOKED", 0)
    assert (soon.state, [len(job.effects) for job in soon.jobs]) == ("REVOKED", [1, 0])


def test_a_task_that_runs_longer_than_the_application_allows_is_told():
    app = Celery("slow", broker="redis://127.0.0.1:1/0")
    app.conf.update(broker_transport_options={"visibility_timeout": 120}, task_time_limit=300)
    told = {}

    @app.task(name="nap", acks_late=True)
    def nap(seconds):
        time.sleep(seconds)

    for seconds in 100, 200, 400:
        with JobHarness() as jobs:
            jobs.register_celery(app)
            nap.delay(seconds).get()
            told[seconds] = [each.message for each in jobs.anomalies]
    again = "and after 120 s another worker is given the message while it still runs"
    assert told[100] == []
    assert told[200] == [f"visibility_timeout: nap ran for 3m20s, {again}"]
    assert told[400][0] == "time_limit: nap ran for 6m40s, and Celery kills what runs for longer than 300 s"


def test_retries_without_end_are_named_with_what_they_failed_of(job_harness, app):
    @app.task(bind=True, max_retries=None)
    def sync(self):
        raise self.retry(exc=OSError("no stock"), countdown=0)

    job_harness.register_celery(app)
    job_harness.longest_chain = 20
    sync.delay()
    told = "21 jobs in one chain; each retries test_more.sync, the last one after OSError: no stock"
    with pytest.raises(Hung, match=f"{told}\\n.*None of them waits"):
        job_harness.advance("1h")
"""


def told(folder: Path, *words: str) -> str:
    try:
        packages = python_package("celery", "5.7.0")
    except EnvironmentUnavailable as missing:
        pytest.skip(f"Celery cannot be installed here: {missing}")
    shutil.copytree(ROOT / "examples" / "celery-app", folder, dirs_exist_ok=True)
    (folder / "tests" / "test_more.py").write_text(MORE)
    for block in pages.blocks(ROOT / "docs/tasks.md"):
        if block.words == ("python", "celery"):
            (folder / "tests" / f"test_page_{block.number}.py").write_text(block.text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)])}
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        *words,
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.long
def test_the_tests_of_the_example_pass_and_so_does_what_a_worker_does(tmp_path: Path) -> None:
    assert "18 passed" in told(tmp_path)


@pytest.mark.long
def test_exploring_the_example_finds_that_a_card_is_charged_twice(tmp_path: Path) -> None:
    text = told(tmp_path, "tests/test_charge.py", "--job-explore", "200")
    assert "effect_repeated in test_an_order_is_charged_once" in text
    assert "One fault: worker-1 crashes right after `charge job-1`" in text
    assert "No scenario: the processor of 'shop-tasks-charge' is not the object that shop.tasks.charge names" in text
