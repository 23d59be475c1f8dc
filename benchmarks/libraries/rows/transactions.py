"""ORMs inside a transaction of the test's: what a processor writes is in it, and is rolled back with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.libraries.rows.at_work import done, output_of

from job_harness import JobHarness, ToolJob


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a model of Django's, inside a transaction that is rolled back, as pytest-django's `db` does it."""
    pytest.importorskip("django")
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        name = str(tmp_path_factory.mktemp("django") / "django.db")
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": name}},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
        )
        django.setup()
    from django.db import connection, models, transaction

    class Invoice(models.Model):
        number = models.IntegerField()
        at = models.DateTimeField(auto_now_add=True)

        class Meta:
            app_label = "libraries"

    with connection.schema_editor() as editor:
        editor.create_model(Invoice)
    with transaction.atomic():
        Invoice.objects.create(number=1)
        yield Invoice
        transaction.set_rollback(True)
    assert Invoice.objects.count() == 0
    with connection.schema_editor() as editor:
        editor.delete_model(Invoice)
    connection.close()
    from django.apps import apps

    apps.all_models["libraries"].clear()
    apps.clear_cache()


def test_django(job_harness: JobHarness, model: Any) -> None:
    def work(job: ToolJob):
        seen = [invoice.number for invoice in model.objects.all()]
        invoice = model.objects.create(number=2)
        time.sleep(300)
        return done([seen, invoice.at.isoformat(), model.objects.count()])

    assert output_of(job_harness, work, warm=False) == [[1], "2026-01-01T00:00:00+00:00", 2]
    assert model.objects.count() == 2


def test_django_asynchronously(job_harness: JobHarness, model: Any) -> None:
    async def work(job: ToolJob):
        seen = [invoice.number async for invoice in model.objects.all()]
        async with asyncio.timeout(1):
            await model.objects.acreate(number=2)
        await asyncio.sleep(300)
        return done([seen, await model.objects.acount(), await model.objects.filter(number=2).aexists()])

    assert output_of(job_harness, work) == [[1], 2, True]
    assert model.objects.count() == 2


def test_django_in_a_check(job_harness: JobHarness, model: Any) -> None:
    counted: list[int] = []

    async def work(job: ToolJob):
        await model.objects.acreate(number=2)
        await asyncio.sleep(300)
        return done()

    job_harness.always(lambda harness: counted.append(model.objects.count()))
    output_of(job_harness, work)
    assert (counted[0], counted[-1]) == (1, 2)


@pytest.mark.postgres
def test_sqlalchemy_session(job_harness: JobHarness, job_postgres: Any) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(job_postgres.url).set(drivername="postgresql+psycopg"))
    sessions = orm.scoped_session(orm.sessionmaker())
    text = sqlalchemy.text
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (x int)"))
        connection.commit()
        outer = connection.begin()
        sessions.configure(bind=connection, join_transaction_mode="create_savepoint")
        sessions().execute(text("INSERT INTO t VALUES (1)"))

        def work(job: ToolJob):
            sessions().execute(text("INSERT INTO t VALUES (2)"))
            time.sleep(300)
            sessions().commit()
            return done(sessions().execute(text("SELECT count(*) FROM t")).scalar())

        assert output_of(job_harness, work) == 2
        sessions.remove()
        outer.rollback()
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    engine.dispose()
