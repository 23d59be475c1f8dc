import pytest
from test_dbos import job_invariants, test_an_order_is_paid_once

from job_harness import dbos_process

__all__ = ["job_invariants", "test_an_order_is_paid_once"]  # the same test, on another database


@pytest.fixture
def job_on_start(job_postgres):
    return dbos_process({"name": "shop", "system_database_url": job_postgres.url})
